"""The `MLLM` for transformers: loading, chat, option probabilities, the KV cache, training rows and adapters."""
