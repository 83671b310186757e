"""LoRA fine-tuning through TRL: the recipe, the run, its checkpoints and validation, and merging."""
