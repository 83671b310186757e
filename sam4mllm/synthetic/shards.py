"""Converts drawings to samples: one per expression, with the masks of visible pixels.

A sample's id ends with the kind of its expression, so that results can be grouped by kind.
"""

from __future__ import annotations

from pathlib import Path

from sam4mllm.data.samples import Sample, SampleSet, read_samples, write_samples
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import write_png
from sam4mllm.synthetic.scenes import Drawing, Level, Split, draw_split

AMBIGUOUS = "-ambiguous"


def samples_of(drawing: Drawing, image: str, split: str) -> list[Sample]:
    """The samples of one drawing, in the order of its expressions.

    Args:
        drawing: the drawing.
        image: path of its image relative to the image root. The stem is part of the ids, as in
            ``shapes-test-000017-2-res``. Ids of ambiguous expressions end with `AMBIGUOUS`.
        split: the split of the samples.
    """
    height, width, _ = drawing.image.shape
    stem = image.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return [
        Sample(
            id=f"shapes-{split}-{stem}-{number}-{expression.kind}{AMBIGUOUS if expression.ambiguous else ''}",
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


def write_scenes(folder: Path, split: Split, scenes: int, level: Level) -> SampleSet:
    """The first scenes of a split as samples; their files are written to the folder if they are missing."""
    if not (folder / split / "dataset.json").exists():
        samples = []
        for index in range(scenes):
            drawing, name = draw_split(split, index, level), f"{split}/{index:06d}.png"
            write_png(folder / "images" / name, drawing.image)
            samples += samples_of(drawing, name, split)
        write_samples(samples, folder / split, folder / "images")
    return read_samples(folder / split)
