"""Samples (an image, a phrase, its masks), conversations for VQA, and their Parquet shards."""
