"""RES: `python -m eval.res ...` is `sam4mllm eval res ...`."""

import sys

from sam4mllm.cli import main

if __name__ == "__main__":
    main(["eval", "res", *sys.argv[1:]])
