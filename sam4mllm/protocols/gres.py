"""GRES: gRefCOCO, several targets and none among them, three parts, as ReLA's evaluator counts them.

sam4mllm eval gres --samples data --predictions out/eval [--predict --mllm … --segmenter …]
"""

from __future__ import annotations

from sam4mllm.protocols.protocol import Part, Protocol

GRES = Protocol(
    "gres",
    "Generalised referring expression segmentation: gRefCOCO; in percent as ReLA counts them",
    "rela",
    ("gIoU", "cIoU", "N_acc"),
    tuple(Part(split, f"grefcoco/{split}") for split in ("val", "testA", "testB")),
)
