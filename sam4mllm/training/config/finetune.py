"""The fine-tuning recipe: model, data, training and validation as plain values, checked without reading files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from sam4mllm.prompters.load import PrompterSpec
from sam4mllm.training.config.ranges import check_ranges
from sam4mllm.training.config.training import Training
from sam4mllm.training.dataset.mixture import DataSource, Rows


@dataclass(frozen=True)
class PqppOptions:
    """PQPP's options on the adapter's card, for `infer` and `predict`; None means PQPP's default."""

    layout: str | None = None
    points: int | None = None
    sure_yes: float | None = None
    sure_no: float | None = None
    ask: str | None = None

    def __post_init__(self) -> None:
        PrompterSpec("pqpp", self.set_options)

    @property
    def set_options(self) -> dict[str, Any]:
        """The options that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Validation:
    """Samples that are predicted and scored while a model trains.

    Attributes:
        samples: folder of samples, which should not be in the training data.
        segmenter: as on the command line.
        prompter: one of `prompters.load.PROMPTERS` that uses an MLLM.
        count: number of samples, spread evenly over the folder.
        every: steps between validations; the last step is always validated.
        images: root of the images, if they were moved.
        batch: samples in a batch.

    Raises:
        UserError: if count, every or batch is below 1.
    """

    samples: str
    segmenter: str
    prompter: str = "ppg"
    count: int = 64
    every: int = 500
    images: str | None = None
    batch: int = 8

    def __post_init__(self) -> None:
        check_ranges(self, "validation", {"1 or more": ("count", "every", "batch")})


@dataclass(frozen=True)
class FinetuneConfig:
    """The values of a fine-tuning recipe.

    Attributes:
        out: the adapter's folder; checkpoints are in ``out/checkpoints``.
        mllm: a folder or hub name of a transformers model.
        data: the training data.
        training: the arguments of TRL and peft.
        dialect: the MLLM's notation for places; if None, it is found from the configuration.
        device: a torch device; if None, the best available.
        dtype: torch name of the dtype of the base's weights, or ``auto`` for the checkpoint's dtype.
        attention: transformers name of the attention implementation.
        trust_remote_code: whether code that comes with the MLLM may run.
        chat_template: a Jinja file that replaces the MLLM's template; the adapter's card contains its text.
        rows: the settings of the training rows.
        pqpp: PQPP's options for the adapter's card.
        validation: samples to score during training; None for no validation.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"held_out": "validation"}

    out: str
    mllm: str
    data: tuple[DataSource, ...]
    training: Training
    dialect: str | None = None
    device: str | None = None
    dtype: str = "auto"
    attention: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    rows: Rows = field(default_factory=Rows)
    pqpp: PqppOptions = field(default_factory=PqppOptions)
    validation: Validation | None = None

    def to_yaml(self) -> dict[str, Any]:
        """The recipe's values, nested; arguments of TRL and peft that have the libraries' defaults are left out."""
        return {**asdict(self), "training": self.training.to_yaml()}
