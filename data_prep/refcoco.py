"""RefCOCO, RefCOCO+ or RefCOCOg to samples: `python -m data_prep.refcoco [--dataset refcoco+] --root downloads ...`.

The same as `sam4mllm data refcoco ...`, with the data set as an option.
"""

import argparse

from sam4mllm.cli import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--dataset", default="refcoco", choices=("refcoco", "refcoco+", "refcocog"))
    options, arguments = parser.parse_known_args()
    if {"-h", "--help"} & set(arguments):
        print(__doc__)  # noqa: T201
    main(["data", options.dataset, *arguments])
