"""From a mask to the prompts that redraw it best: the search, its resumable run, and the target shards."""
