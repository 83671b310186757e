"""Runs `sam4mllm` as `python -m sam4mllm`."""

from sam4mllm.cli import main

main()
