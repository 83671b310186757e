"""The synthetic benchmark: `python -m eval.synthetic ...` is `sam4mllm eval synthetic ...`."""

import sys

from sam4mllm.cli import main

if __name__ == "__main__":
    main(["eval", "synthetic", *sys.argv[1:]])
