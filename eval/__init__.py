"""Launchers, one per protocol: `python -m eval.NAME ...` is `sam4mllm eval NAME ...`."""
