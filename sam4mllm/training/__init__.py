"""LoRA fine-tuning with TRL: recipe, training run, checkpoints, validation and merging."""
