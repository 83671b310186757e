"""RES: RefCOCO, RefCOCO+ and RefCOCOg (umd), every sentence of every ref; eight splits, cIoU as LAVT computes it.

sam4mllm eval res --samples data --predictions out/eval [--predict --mllm … --segmenter …]
"""

from __future__ import annotations

from sam4mllm.protocols.protocol import Part, Protocol

RES = Protocol(
    "res",
    "Referring expression segmentation: RefCOCO, RefCOCO+ (unc), RefCOCOg (umd); cIoU in percent, computed as by LAVT",
    "lavt",
    ("cIoU",),
    (
        Part("RefCOCO val", "refcoco/val"),
        Part("RefCOCO testA", "refcoco/testA"),
        Part("RefCOCO testB", "refcoco/testB"),
        Part("RefCOCO+ val", "refcoco+/val"),
        Part("RefCOCO+ testA", "refcoco+/testA"),
        Part("RefCOCO+ testB", "refcoco+/testB"),
        Part("RefCOCOg val", "refcocog/val"),
        Part("RefCOCOg test", "refcocog/test"),
    ),
)
