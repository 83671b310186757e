"""RefCOCO, RefCOCO+ and RefCOCOg in REFER's layout -> Sample shards, one folder per split.

    python -m data_prep.refcoco --dataset refcoco+ --root downloads --out data/refcoco+

One sentence of RefCOCO (unc), and the sample that it becomes; `data_prep.refer` shows the files:

    {"sent_id": 15215, "sent": "pink shirt", "raw": "pink shirt", "tokens": ["pink", "shirt"]}   in ref 5342, split val

    Sample(id="refcoco-unc-5342-15215", image="train2014/COCO_train2014_000000520199.jpg", phrase="pink shirt",
           raw="pink shirt", masks=(Rle(...),), source="refcoco", split="val", ...)

Every sentence of every ref counts. As in REFER, a split "testAB" belongs to testA and to testB.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from data_prep.refer import image_root, read_instances, read_refs, samples_of
from sam4mllm.errors import UserError
from sam4mllm.samples import Sample, write_samples

# whose splits each set comes with, the one that papers report first
SPLIT_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"refcoco": ("unc", "google"), "refcoco+": ("unc",), "refcocog": ("umd", "google")}
)


def prepare(root: Path, dataset: str, split_by: str) -> dict[str, list[Sample]]:
    """All samples of one set, by split, in the order of the refs.

    Args:
        root: holds the set's folder.
        dataset: a key of `SPLIT_BY`.
        split_by: one of its values.

    Raises:
        UserError: for an unknown set or split-by, and for files that are missing, damaged or of another form.
    """
    if dataset not in SPLIT_BY:
        raise UserError(f"there is no set {dataset!r} here: choose one of {', '.join(SPLIT_BY)}")
    if split_by not in SPLIT_BY[dataset]:
        raise UserError(f"{dataset} is not split by {split_by!r}: choose one of {', '.join(SPLIT_BY[dataset])}")
    refs = read_refs(root / dataset / f"refs({split_by}).p")
    instances = read_instances(root / dataset / "instances.json")
    splits: dict[str, list[Sample]] = {}
    for ref in refs:
        for split in _splits(str(ref.get("split"))):
            splits.setdefault(split, []).extend(samples_of(ref, instances, dataset, split_by, split))
    return splits


def main(
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(SPLIT_BY)}.")],
    root: Annotated[Path, typer.Option(help="The folder that holds the set's folder, and images.")],
    out: Annotated[Path, typer.Option(help="Where the splits' folders go.")],
    split_by: Annotated[str | None, typer.Option(help="unc, umd or google; what papers report by default.")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder that holds train2014, if not below root.")] = None,
) -> None:
    """RefCOCO, RefCOCO+ and RefCOCOg in REFER's layout -> Sample shards, one folder per split."""
    try:
        splits = prepare(root, dataset, split_by or SPLIT_BY.get(dataset, ("",))[0])
        for split, samples in splits.items():
            write_samples(samples, out / split, images or image_root(root))
            pictures = len({sample.image for sample in samples})
            typer.echo(f"{out / split}: {len(samples)} expressions about {pictures} pictures")
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _splits(split: str) -> list[str]:
    """The splits that a ref's word puts it in.

    Raises:
        UserError: for a word that REFER does not know.
    """
    if split in ("train", "val", "test"):
        return [split]
    letters = split.removeprefix("test")
    if split != letters and set(letters) <= set("ABC"):
        return [f"test{letter}" for letter in letters]
    raise UserError(f"a ref has the split {split!r}: train, val, test and testA, testB, testC are known")


if __name__ == "__main__":
    typer.run(main)
