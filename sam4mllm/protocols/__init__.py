"""Benchmark protocols: their splits, metrics and published numbers. Independent of the prompting strategy."""
