"""`python -m sam4mllm.cli`."""

from sam4mllm.cli import main

main()
