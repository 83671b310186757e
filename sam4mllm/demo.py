"""The whole method on the embedded models: scenes, targets, a LoRA that teaches points, predictions, numbers, pictures.

Run as ``python -m sam4mllm.demo RECIPE [key=value …]``; each part that is done is not done again. It goes the way
of the commands targets, finetune, predict and score.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import yaml

from sam4mllm.runtime.files import check_folder, write_text
from sam4mllm.runtime.specs import (
    EMBEDDED,
    TINY,
    Option,
    build_mllm,
    build_prompter,
    build_segmenter,
    check_mllm,
    check_prompter,
    check_segmenter,
)
from sam4mllm.images.overlay import AnySize, contact_sheet, overlay
from sam4mllm.errors import UserError
from sam4mllm.runtime.provenance import weights
from sam4mllm.images.files import read_image, write_png
from sam4mllm.training.run import FinetuneRecipe
from sam4mllm.training.run import run as finetune
from sam4mllm.mllm.adapter_card import Card
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.prompters import Prompter
from sam4mllm.prompters.oracle import Oracle
from sam4mllm.training.dataset.mixture import Rows
from sam4mllm.data.samples import Sample, SampleSet, read_samples, write_samples
from sam4mllm.segmenters import Segmenter
from sam4mllm.synthetic import Level, Split, draw_split
from sam4mllm.synthetic.shards import samples_of
from sam4mllm.training.dataset.corpus import Source
from sam4mllm.targets.record import write_targets
from sam4mllm.targets.search import Search, make_targets, report
from tiny_models.command import command
from sam4mllm.evaluation.differences import difference, table
from sam4mllm.training.config import Training

log = logging.getLogger(__name__)
WAYS = ("box", "ppg", "pqpp")
BASE, LONGER = "base-", "longer-"
AMBIGUOUS = "-ambiguous"


@dataclass(frozen=True)
class Longer:
    """Adapters that were taught one way each, and for longer; ``tiny`` for the package's own, None for none."""

    ppg: str | None = None
    pqpp: str | None = None

    @property
    def folders(self) -> dict[str, str]:
        """Where each lies, by the way that it was taught."""
        given = {"ppg": self.ppg, "pqpp": self.pqpp}
        return {way: str(EMBEDDED / way) if spec == TINY else spec for way, spec in given.items() if spec is not None}


@dataclass(frozen=True)
class Demo:
    """A demonstration; the recipe says what each value is for."""

    out: str
    training: Training
    mllm: str = "tiny"
    segmenter: str = "tiny"
    train_scenes: int = 400
    test_scenes: int = 40
    objects: tuple[int, int] = (1, 3)
    search: Search = field(default_factory=Search)
    rows: Rows = field(default_factory=Rows)
    points: int = 9
    sure_yes: float = 0.75
    sure_no: float = 0.9
    pictures: int = 8
    seed: int = 0
    asked_by: tuple[str, ...] = WAYS
    longer: Longer = field(default_factory=Longer)

    def __post_init__(self) -> None:
        Level(objects=self.objects)
        if min(self.train_scenes, self.test_scenes, self.pictures) < 1 or self.seed < 0:
            raise UserError(
                f"a demonstration has 1 or more scenes to learn from, to be tested on and to be shown, and a seed of 0 "
                f"or more, got {self.train_scenes}, {self.test_scenes}, {self.pictures} and {self.seed}"
            )

    @property
    def options(self) -> dict[str, dict[str, Option]]:
        """How each way asks."""
        return {
            "box": {},
            "ppg": {"positive": self.rows.positive, "negative": self.rows.negative},
            "pqpp": {"points": self.points, "sure_yes": self.sure_yes, "sure_no": self.sure_no},
        }

    def check(self) -> None:
        """Refuse what cannot be built, before anything is written.

        Raises:
            UserError: for the first slip.
        """
        if TINY in (self.longer.ppg, self.longer.pqpp) and self.mllm != TINY:
            raise UserError(
                f"the adapters that come with the package are of tiny, and not of {self.mllm}: "
                f"longer.ppg=null longer.pqpp=null"
            )
        for adapter in (None, *self.longer.folders.values()):
            check_mllm(self.mllm, adapter)
        check_segmenter(self.segmenter)
        for way in self.asked_by:
            if way not in WAYS:
                raise UserError(f"a demonstration asks by {', '.join(WAYS)}, got {way!r}")
            check_prompter(way, self.options[way])
        check_folder(Path(self.out))


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


def search_targets(recipe: Demo, samples: SampleSet, segmenter: Segmenter, folder: Path) -> None:
    """Make a folder hold targets for the samples; what is there already is kept."""
    if not (folder / "targets.json").exists():
        search = replace(recipe.search, seed=recipe.seed)
        targets = list(make_targets(samples, segmenter, search))
        write_targets(targets, folder, {"search": asdict(search), "segmenter": recipe.segmenter})
        log.info("targets: %s", report(targets))


def teach(recipe: Demo, samples: SampleSet, segmenter: Segmenter, out: Path) -> Path:
    """Targets for the samples, and a LoRA on the base that teaches them; returns its folder."""
    search_targets(recipe, samples, segmenter, out / "targets")
    adapter = out / "adapter"
    if not (adapter / "sam4mllm.json").exists():
        learning = FinetuneRecipe(
            str(adapter),
            recipe.mllm,
            (Source(str(out / "shapes" / "train"), str(out / "targets")),),
            replace(recipe.training, seed=recipe.seed),
            device="cpu",
            rows=replace(recipe.rows, seed=recipe.seed),
        )
        finetune(learning)
    return adapter


def ways(recipe: Demo, samples: SampleSet, adapter: Path) -> dict[str, Prompter]:
    """The base and what it was taught, each asked in every way, what was taught for longer, and the oracle."""
    found: dict[str, Prompter] = {}
    for name, folder in ((BASE, None), ("", str(adapter))):
        mllm = build_mllm(recipe.mllm, adapter=folder, device="cpu")
        found |= {f"{name}{way}": build_prompter(way, mllm, recipe.options[way]) for way in recipe.asked_by}
    for way, folder in recipe.longer.folders.items():
        mllm = build_mllm(recipe.mllm, adapter=folder, device="cpu")
        card = Card.read(Path(folder))
        found[f"{LONGER}{way}"] = build_prompter(way, mllm, card.options(way) if card else recipe.options[way])
    return {**found, "oracle": Oracle.of(samples, seed=recipe.seed)}


def summary(samples: list[Sample], predictions: Mapping[str, list[Prediction]]) -> str:
    """The tables of all expressions and of the ambiguous ones, and what points are worth on the latter."""
    parts = ["## All expressions", table(samples, predictions)]
    ambiguous = [sample for sample in samples if sample.id.endswith(AMBIGUOUS)]
    if ambiguous:
        ids = {sample.id for sample in ambiguous}
        found = {name: [one for one in each if one.id in ids] for name, each in predictions.items()}
        parts += ["## Expressions whose target shares its box with another figure (IoU >= .6)", table(ambiguous, found)]
        parts.append(
            f"Differences of cIoU, with the 95% interval over the {len({one.image for one in ambiguous})} pictures of "
            f"the test (one training each):"
        )
        for better, worse in pairs(found):
            apart, low, high = difference(ambiguous, found[better], found[worse])
            parts.append(f"- {better} less {worse}: {apart:+.1f} ({low:+.1f} to {high:+.1f})")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def pairs(found: Iterable[str]) -> list[tuple[str, str]]:
    """Which ways are held against each other: points against the base's own box, and PQPP against PPG."""
    names = [f"{taught}{way}" for taught in ("", LONGER) for way in ("ppg", "pqpp")]
    against = [(name, f"{BASE}box") for name in names] + [("pqpp", "ppg"), (f"{LONGER}pqpp", f"{LONGER}ppg")]
    return [pair for pair in against if set(pair) <= set(found)]


def sheet(samples: SampleSet, predictions: Mapping[str, list[Prediction]], pictures: int) -> AnySize:
    """A contact sheet: one sample of each picture that has targets, ambiguous ones first, a column for each way.

    Of what was taught for longer, where it was asked.
    """
    there = [[name for name in (LONGER + way, way) if name in predictions] for way in WAYS]
    columns = [*(names[0] for names in there if names), "oracle"]
    by_id = {name: {one.id: one for one in predictions[name]} for name in columns}
    targeted = sorted((one for one in samples if one.masks), key=lambda one: not one.id.endswith(AMBIGUOUS))
    shown = {sample.image: sample for sample in reversed(targeted)}  # the first of each picture
    targeted = [sample for sample in targeted if sample is shown[sample.image]]
    tiles = [
        overlay(
            read_image(samples.path(sample)),
            by_id[name][sample.id].prompts,
            [by_id[name][sample.id].mask.mask],
            f"{name}: {sample.phrase}",
        )
        for sample in targeted[:pictures]
        for name in columns
    ]
    return contact_sheet(tiles, len(columns), (336, 380))


def run(recipe: Demo) -> str:
    """All of it; leaves predictions, ``table.md`` and ``sheet.png``, and returns the tables.

    Raises:
        UserError: for what cannot be built, and a folder in which another recipe was begun.
    """
    recipe.check()
    out, level = Path(recipe.out), Level(objects=recipe.objects)
    files = [*weights(recipe.mllm, "mllm"), *weights(recipe.segmenter, "sam")]
    note = yaml.safe_dump({"recipe": _plain(asdict(recipe)), "weights": files}, sort_keys=False)
    noted = out / "demo.yaml"
    if noted.exists() and noted.read_text(encoding="utf-8") != note:
        raise UserError(f"{out} was begun with another recipe or other weights, see {noted}: give another out")
    write_text(noted, note)
    train = write_scenes(out / "shapes", "train", recipe.train_scenes, level)
    test = write_scenes(out / "shapes", "test", recipe.test_scenes, level)
    segmenter = build_segmenter(recipe.segmenter, device="cpu")
    adapter = teach(recipe, train, segmenter, out)
    predictions = {}
    for name, prompter in ways(recipe, test, adapter).items():
        file = out / f"{name}.jsonl"
        predict(test, Pipeline(prompter, segmenter), file, batch_size=32)
        predictions[name] = list(read_predictions(file))
        failed = [one for one in predictions[name] if one.error]
        log.info("%s: done%s", name, f", {len(failed)} failed, the first: {failed[0].error}" if failed else "")
    shown = summary(list(test), predictions)
    write_text(out / "table.md", shown)
    write_png(out / "sheet.png", sheet(test, predictions, recipe.pictures))
    return shown


def _plain(value: object) -> object:
    """Values as YAML has them: lists in the place of tuples."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    command(Demo, lambda recipe: print(run(recipe)))  # noqa: T201
