"""Launchers, one per data set: `python -m data_prep.NAME ...` is `sam4mllm data NAME ...`."""
