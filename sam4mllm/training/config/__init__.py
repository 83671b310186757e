"""The values of a fine-tuning recipe, checked without importing torch: arguments of TRL and peft, and further keys."""
