"""ReasonSeg: `python -m eval.reasonseg ...` is `sam4mllm eval reasonseg ...`."""

import sys

from sam4mllm.cli import main

if __name__ == "__main__":
    main(["eval", "reasonseg", *sys.argv[1:]])
