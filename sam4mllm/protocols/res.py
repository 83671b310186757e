"""RES: RefCOCO, RefCOCO+ and RefCOCOg (umd), every sentence of every ref; eight splits, cIoU as LAVT computes it.

sam4mllm eval res --samples data --predictions out/eval [--predict --mllm … --segmenter …]
"""

from __future__ import annotations

from sam4mllm.protocols.protocol import Protocol, ProtocolPart

RES = Protocol(
    "res",
    "Referring expression segmentation: RefCOCO, RefCOCO+ (unc), RefCOCOg (umd); cIoU in percent, computed as by LAVT",
    "lavt",
    ("cIoU",),
    (
        ProtocolPart("RefCOCO val", "refcoco/val"),
        ProtocolPart("RefCOCO testA", "refcoco/testA"),
        ProtocolPart("RefCOCO testB", "refcoco/testB"),
        ProtocolPart("RefCOCO+ val", "refcoco+/val"),
        ProtocolPart("RefCOCO+ testA", "refcoco+/testA"),
        ProtocolPart("RefCOCO+ testB", "refcoco+/testB"),
        ProtocolPart("RefCOCOg val", "refcocog/val"),
        ProtocolPart("RefCOCOg test", "refcocog/test"),
    ),
)
