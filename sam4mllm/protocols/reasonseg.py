"""ReasonSeg: the first text of each image in val and test, and test by short and long queries, scored as by LISA.

sam4mllm eval reasonseg --samples data --predictions out/eval [--predict --mllm … --segmenter …]
"""

from __future__ import annotations

from sam4mllm.protocols.protocol import Part, Protocol

REASONSEG = Protocol(
    "reasonseg",
    "Reasoning segmentation: ReasonSeg; in percent, scored as by LISA, short and long by `is_sentence`",
    "lisa",
    ("gIoU", "cIoU"),
    (
        Part("val", "reasonseg/val"),
        Part("test", "reasonseg/test"),
        Part("test short", "reasonseg/test", "phrase"),
        Part("test long", "reasonseg/test", "sentence"),
    ),
)
