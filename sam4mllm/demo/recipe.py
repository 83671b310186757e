"""The values of the demo's recipe, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml

from sam4mllm.config import PipelineConfig
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import check_folder, write_text
from sam4mllm.runtime.provenance import hash_weights
from sam4mllm.runtime.specs import EMBEDDED, TINY
from sam4mllm.synthetic import Level
from sam4mllm.targets.search import Search
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.config.training import Training
from sam4mllm.training.dataset.mixture import DataSource, Rows

WAYS = ("box", "ppg", "pqpp")
BASE, LONGER = "base-", "longer-"


@dataclass(frozen=True)
class Longer:
    """Adapters that were trained longer, one per prompter; ``tiny`` selects an embedded adapter, None no adapter."""

    ppg: str | None = None
    pqpp: str | None = None

    @property
    def folders(self) -> dict[str, str]:
        """The adapters' folders by prompter."""
        adapters = {"ppg": self.ppg, "pqpp": self.pqpp}
        return {
            way: str(EMBEDDED / way) if spec == TINY else spec for way, spec in adapters.items() if spec is not None
        }


@dataclass(frozen=True)
class Demo:
    """The values of a demo; comments in the recipe explain them."""

    RENAMED: ClassVar[Mapping[str, str]] = {"pictures": "images", "asked_by": "prompters"}

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
    images: int = 8
    seed: int = 0
    prompters: tuple[str, ...] = WAYS
    longer: Longer = field(default_factory=Longer)

    def __post_init__(self) -> None:
        Level(objects=self.objects)
        if min(self.train_scenes, self.test_scenes, self.images) < 1 or self.seed < 0:
            raise UserError(
                f"train_scenes, test_scenes and images must be 1 or more, and seed 0 or more, got "
                f"{self.train_scenes}, {self.test_scenes}, {self.images} and {self.seed}"
            )

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """The options of each prompter."""
        return {
            "box": {},
            "ppg": {"positive": self.rows.positive, "negative": self.rows.negative},
            "pqpp": {"points": self.points, "sure_yes": self.sure_yes, "sure_no": self.sure_no},
        }

    def check(self) -> None:
        """Check that all models and prompters can be built, before anything is written.

        Raises:
            UserError: for the first value that is not valid.
        """
        if TINY in (self.longer.ppg, self.longer.pqpp) and self.mllm != TINY:
            raise UserError(
                f"the embedded adapters belong to tiny and not to {self.mllm}: set longer.ppg=null longer.pqpp=null"
            )
        for way in self.prompters:
            if way not in WAYS:
                raise UserError(f"unknown prompter {way!r} in prompters: choose from {', '.join(WAYS)}")
            PipelineConfig(self.segmenter, self.mllm, way, self.options[way]).check()
        for way, adapter in self.longer.folders.items():
            PipelineConfig(self.segmenter, self.mllm, way, adapter=adapter).check()
        check_folder(Path(self.out))

    def record_in(self, file: Path) -> None:
        """Record the recipe and the weights in a file of the output folder.

        Raises:
            UserError: if the folder was made with another recipe or other weights.
        """
        files = [*hash_weights(self.mllm, "mllm"), *hash_weights(self.segmenter, "sam")]
        recipe = {**asdict(self), "training": self.training.to_yaml()}
        # through JSON, which turns tuples into lists
        record = yaml.safe_dump({"recipe": json.loads(json.dumps(recipe)), "weights": files}, sort_keys=False)
        if file.exists() and file.read_text(encoding="utf-8") != record:
            raise UserError(
                f"{file.parent} was started with another recipe or other weights, see {file}: set another out"
            )
        write_text(file, record)

    @property
    def seeded_search(self) -> Search:
        """The settings of the target search, with the demo's seed."""
        return replace(self.search, seed=self.seed)

    def finetune_config(self, samples: Path, targets: Path, adapter: Path) -> FinetuneConfig:
        """The recipe to train a LoRA on the base.

        Args:
            samples: folder of the training samples.
            targets: folder of their targets.
            adapter: output folder.
        """
        return FinetuneConfig(
            str(adapter),
            self.mllm,
            (DataSource(str(samples), str(targets)),),
            replace(self.training, seed=self.seed),
            device="cpu",
            rows=replace(self.rows, seed=self.seed),
        )

    def pipeline_configs(self, adapter: Path) -> dict[str, PipelineConfig]:
        """The pipelines by name: base and adapter with each prompter, the longer trained adapters, and the oracle."""
        pipeline = PipelineConfig(self.segmenter, self.mllm, device="cpu")
        ways = {
            f"{name}{way}": replace(pipeline, prompter=way, options=self.options[way], adapter=folder)
            for name, folder in ((BASE, None), ("", str(adapter)))
            for way in self.prompters
        }
        for way, folder in self.longer.folders.items():
            ways[f"{LONGER}{way}"] = replace(pipeline, prompter=way, adapter=folder)
        return {**ways, "oracle": replace(pipeline, mllm="", prompter="oracle", options={"seed": self.seed})}
