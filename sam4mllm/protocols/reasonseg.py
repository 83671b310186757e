"""ReasonSeg: the first text of each image in val and test, and test by short and long queries, scored as by LISA.

sam4mllm eval reasonseg --samples data --predictions out/eval [--predict --mllm … --segmenter …]
"""

from __future__ import annotations

from sam4mllm.protocols.protocol import Protocol, ProtocolColumn

REASONSEG = Protocol(
    "reasonseg",
    "Reasoning segmentation: ReasonSeg; in percent, scored as by LISA, short and long by `is_sentence`",
    "lisa",
    ("gIoU", "cIoU"),
    (
        ProtocolColumn("val", "reasonseg/val"),
        ProtocolColumn("test", "reasonseg/test"),
        ProtocolColumn("test short", "reasonseg/test", "phrase"),
        ProtocolColumn("test long", "reasonseg/test", "sentence"),
    ),
)
