"""ReasonSeg: the first text of each image in val and test, and test by short and long queries, scored as by LISA.

sam4mllm eval reasonseg --samples data --predictions out/eval [--predict --mllm … --segmenter …]
"""

from __future__ import annotations

from sam4mllm.protocols.protocol import Protocol, ProtocolPart

REASONSEG = Protocol(
    "reasonseg",
    "Reasoning segmentation: ReasonSeg; in percent, scored as by LISA, short and long by `is_sentence`",
    "lisa",
    ("gIoU", "cIoU"),
    (
        ProtocolPart("val", "reasonseg/val"),
        ProtocolPart("test", "reasonseg/test"),
        ProtocolPart("test short", "reasonseg/test", "phrase"),
        ProtocolPart("test long", "reasonseg/test", "sentence"),
    ),
)
