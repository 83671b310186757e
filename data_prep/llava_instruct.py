"""LLaVA-Instruct to samples: `python -m data_prep.llava_instruct ...` is `sam4mllm data llava_instruct ...`."""

import sys

from sam4mllm.cli import main

if __name__ == "__main__":
    main(["data", "llava_instruct", *sys.argv[1:]])
