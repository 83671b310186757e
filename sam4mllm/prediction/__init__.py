"""Samples in, prediction files out: batches, failures, shards and resuming. Knows no metric."""
