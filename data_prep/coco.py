"""COCO instances to samples: `python -m data_prep.coco ...` is `sam4mllm data coco ...`."""

import sys

from sam4mllm.cli import main

if __name__ == "__main__":
    main(["data", "coco", *sys.argv[1:]])
