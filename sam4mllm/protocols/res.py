"""RES: RefCOCO, RefCOCO+ and RefCOCOg (umd), every sentence of every ref; eight splits, cIoU as LAVT computes it.

sam4mllm eval res --samples data --predictions out/eval [--predict --mllm … --segmenter …]
"""

from __future__ import annotations

from sam4mllm.protocols.protocol import Protocol, ProtocolColumn

RES = Protocol(
    "res",
    "Referring expression segmentation: RefCOCO, RefCOCO+ (unc), RefCOCOg (umd); cIoU in percent, computed as by LAVT",
    "lavt",
    ("cIoU",),
    (
        ProtocolColumn("RefCOCO val", "refcoco/val"),
        ProtocolColumn("RefCOCO testA", "refcoco/testA"),
        ProtocolColumn("RefCOCO testB", "refcoco/testB"),
        ProtocolColumn("RefCOCO+ val", "refcoco+/val"),
        ProtocolColumn("RefCOCO+ testA", "refcoco+/testA"),
        ProtocolColumn("RefCOCO+ testB", "refcoco+/testB"),
        ProtocolColumn("RefCOCOg val", "refcocog/val"),
        ProtocolColumn("RefCOCOg test", "refcocog/test"),
    ),
)
