"""The values of a demonstration, checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from sam4mllm.config import Recipe
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import check_folder, write_text
from sam4mllm.runtime.provenance import weights
from sam4mllm.runtime.specs import EMBEDDED, TINY
from sam4mllm.synthetic import Level
from sam4mllm.targets.search import Search
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.config.training import Training
from sam4mllm.training.dataset.mixture import Rows, Source

WAYS = ("box", "ppg", "pqpp")
BASE, LONGER = "base-", "longer-"


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
    def options(self) -> dict[str, dict[str, Any]]:
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
        for way in self.asked_by:
            if way not in WAYS:
                raise UserError(f"a demonstration asks by {', '.join(WAYS)}, got {way!r}")
            Recipe(self.segmenter, self.mllm, way, self.options[way]).check()
        for way, adapter in self.longer.folders.items():
            Recipe(self.segmenter, self.mllm, way, adapter=adapter).check()
        check_folder(Path(self.out))

    def note(self, file: Path) -> None:
        """Note what the folder of a file is made of.

        Raises:
            UserError: for a folder that was made of something else.
        """
        files = [*weights(self.mllm, "mllm"), *weights(self.segmenter, "sam")]
        recipe = {**asdict(self), "training": self.training.to_yaml()}
        note = yaml.safe_dump({"recipe": _plain(recipe), "weights": files}, sort_keys=False)
        if file.exists() and file.read_text(encoding="utf-8") != note:
            raise UserError(
                f"{file.parent} was begun with another recipe or other weights, see {file}: give another out"
            )
        write_text(file, note)

    @property
    def seeded_search(self) -> Search:
        """The search for targets, with the seed of the demonstration."""
        return replace(self.search, seed=self.seed)

    def finetuning(self, samples: Path, targets: Path, adapter: Path) -> FinetuneConfig:
        """The training of a LoRA on the base.

        Args:
            samples: what it is taught from.
            targets: of these samples.
            adapter: the folder that it is written to.
        """
        return FinetuneConfig(
            str(adapter),
            self.mllm,
            (Source(str(samples), str(targets)),),
            replace(self.training, seed=self.seed),
            device="cpu",
            rows=replace(self.rows, seed=self.seed),
        )

    def ways(self, adapter: Path) -> dict[str, Recipe]:
        """The base and an adapter, each asked in every way, what was taught for longer, and the oracle."""
        asked = Recipe(self.segmenter, self.mllm, device="cpu")
        ways = {
            f"{name}{way}": replace(asked, prompter=way, options=self.options[way], adapter=folder)
            for name, folder in ((BASE, None), ("", str(adapter)))
            for way in self.asked_by
        }
        for way, folder in self.longer.folders.items():
            ways[f"{LONGER}{way}"] = replace(asked, prompter=way, adapter=folder)
        return {**ways, "oracle": replace(asked, mllm="", prompter="oracle", options={"seed": self.seed})}


def _plain(value: object) -> object:
    """Values as YAML has them: lists in the place of tuples."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
