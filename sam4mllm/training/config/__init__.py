"""The values of a fine-tuning recipe, checked without importing torch: names of TRL and peft, and our own."""
