"""ReasonSeg to samples: `python -m data_prep.reasonseg ...` is `sam4mllm data reasonseg ...`."""

import sys

from sam4mllm.cli import main

if __name__ == "__main__":
    main(["data", "reasonseg", *sys.argv[1:]])
