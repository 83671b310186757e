"""LabelMe folders to samples: `python -m data_prep.labelme ...` is `sam4mllm data labelme ...`."""

import sys

from sam4mllm.cli import main

if __name__ == "__main__":
    main(["data", "labelme", *sys.argv[1:]])
