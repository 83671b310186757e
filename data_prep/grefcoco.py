"""gRefCOCO to samples: `python -m data_prep.grefcoco ...` is `sam4mllm data grefcoco ...`."""

import sys

from sam4mllm.cli import main

if __name__ == "__main__":
    main(["data", "grefcoco", *sys.argv[1:]])
