"""Samples and conversations, what is asked about which image, and their Parquet shards.

Knows no data set and no model.
"""
