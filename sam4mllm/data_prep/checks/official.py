"""The official counts of each data set, which a conversion is compared with.

    OFFICIAL["refcoco-unc"]["val"]  ->  Counts(refs=3811, sentences=10834, pictures=1500)

Sources: refs and images are from the table of TensorFlow Datasets' ref_coco, made with REFER's reader. Sentences of
training splits are from the data sets' own readers. With the other splits they sum to the published totals of RefCOCO
(142,210) and RefCOCO+ (141,564), and to the 95,010 in the file of RefCOCOg-umd. gRefCOCO is the release of 2023.
ReasonSeg's counts are from its README. LLaVA-Instruct and your own data have no official counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of refs, sentences and images (``pictures``, as in the report); None if unknown."""

    refs: int | None = None
    sentences: int | None = None
    pictures: int | None = None


OFFICIAL: Mapping[str, Mapping[str, Counts]] = MappingProxyType(
    {
        "refcoco-unc": {
            "train": Counts(42404, 120624, 16994),
            "val": Counts(3811, 10834, 1500),
            "testA": Counts(1975, 5657, 750),
            "testB": Counts(1810, 5095, 750),
        },
        "refcoco-google": {
            "train": Counts(40000, None, 19213),
            "val": Counts(5000, None, 4559),
            "test": Counts(5000, None, 4527),
        },
        "refcoco+-unc": {
            "train": Counts(42278, 120191, 16992),
            "val": Counts(3805, 10758, 1500),
            "testA": Counts(1975, 5726, 750),
            "testB": Counts(1798, 4889, 750),
        },
        "refcocog-umd": {
            "train": Counts(42226, 80512, 21899),
            "val": Counts(2573, 4896, 1300),
            "test": Counts(5023, 9602, 2600),
        },
        "refcocog-google": {"train": Counts(44822, None, 24698), "val": Counts(5000, None, 4650)},
        "grefcoco-unc": {
            "train": Counts(78930, 209344),
            "val": Counts(8163),
            "testA": Counts(6266),
            "testB": Counts(4618),
        },
        "reasonseg": {
            "train": Counts(pictures=239),
            "val": Counts(sentences=200, pictures=200),
            "test": Counts(sentences=779, pictures=779),
        },
    }
)
