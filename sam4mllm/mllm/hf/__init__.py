"""The `MLLM` over transformers: loading, chat, option probabilities, the shared prefix, training rows, adapters."""
