"""The embedded default: a tiny MLLM and a tiny SAM of the real transformers classes, trained on synthetic scenes."""
