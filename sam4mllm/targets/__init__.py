"""Finds the prompts that reproduce a mask best: the search, its resumable run, and the Parquet shards of targets."""
