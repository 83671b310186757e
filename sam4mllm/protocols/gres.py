"""GRES: gRefCOCO with no, one or several targets; three splits, scored as by ReLA's evaluator.

sam4mllm eval gres --samples data --predictions out/eval [--predict --mllm … --segmenter …]
"""

from __future__ import annotations

from sam4mllm.protocols.protocol import Protocol, ProtocolColumn

GRES = Protocol(
    "gres",
    "Generalised referring expression segmentation: gRefCOCO; in percent, scored as by ReLA",
    "rela",
    ("gIoU", "cIoU", "N_acc"),
    tuple(ProtocolColumn(split, f"grefcoco/{split}") for split in ("val", "testA", "testB")),
)
