"""The benchmarks of the field: which splits, which metrics, whose published numbers. Knows no prompting strategy."""
