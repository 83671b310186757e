"""GRES: `python -m eval.gres ...` is `sam4mllm eval gres ...`."""

import sys

from sam4mllm.cli import main

if __name__ == "__main__":
    main(["eval", "gres", *sys.argv[1:]])
