"""Predicts samples and writes prediction files: batches, failures, shards and resuming. Metrics are in `evaluation`."""
