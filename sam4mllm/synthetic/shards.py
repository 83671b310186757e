"""Drawings as samples: one per expression, with the masks of what is seen. Knows nothing of drawing.

The kind of an expression is the last part of its sample's id, so that results can be split by it.
"""

from __future__ import annotations

from pathlib import Path

from sam4mllm.data.samples import Sample, SampleSet, read_samples, write_samples
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import write_png
from sam4mllm.synthetic import Level, Split, draw_split
from sam4mllm.synthetic.scenes import Drawing


def samples_of(drawing: Drawing, image: str, split: str) -> list[Sample]:
    """The samples of one drawing, in the order of its expressions.

    Args:
        drawing: of any level.
        image: where its picture is or will be, below the set's image root; its stem is a part of the ids, as in
            ``shapes-test-000017-2-res``, with ``-ambiguous`` behind where a box alone does not say what is meant.
        split: the part of the set that it belongs to.
    """
    height, width, _ = drawing.image.shape
    stem = image.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return [
        Sample(
            id=f"shapes-{split}-{stem}-{number}-{expression.kind}{'-ambiguous' if expression.ambiguous else ''}",
            image=image,
            width=width,
            height=height,
            phrase=expression.text,
            masks=tuple(Rle.from_mask(mask) for mask in drawing.masks(expression)),
            source="shapes",
            split=split,
            kind="sentence" if expression.kind == "reasoning" else "phrase",
        )
        for number, expression in enumerate(drawing.expressions)
    ]


AMBIGUOUS = "-ambiguous"


def write_scenes(folder: Path, split: Split, scenes: int, level: Level) -> SampleSet:
    """The first scenes of a split as pictures and samples below a folder; what is there already is kept."""
    if not (folder / split / "dataset.json").exists():
        samples = []
        for index in range(scenes):
            drawing, name = draw_split(split, index, level), f"{split}/{index:06d}.png"
            write_png(folder / "images" / name, drawing.image)
            samples += samples_of(drawing, name, split)
        write_samples(samples, folder / split, folder / "images")
    return read_samples(folder / split)
