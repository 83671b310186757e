"""The recipe of a training run: which model, which data, how to train, and how the adapter will be used."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sam4mllm import __version__
from sam4mllm.errors import UserError
from sam4mllm.mllm.adapter_card import Card
from sam4mllm.mllm.hf.quantized import check_four_bits
from sam4mllm.mllm.load import check_mllm
from sam4mllm.prompters.load import check_prompter
from sam4mllm.runtime.provenance import data
from sam4mllm.runtime.recipes import shipped_file
from sam4mllm.runtime.specs import TINY, check_dtype
from sam4mllm.training.config import Training, check_reports
from sam4mllm.training.dataset.corpus import Corpus, check_files, corpus, read_sources
from sam4mllm.training.dataset.mixture import Rows, Source
from sam4mllm.training.validation import HeldOut


@dataclass(frozen=True)
class PqppOptions:
    """How `infer` and `predict` ask an adapter by PQPP where nothing else is said; its own defaults where None."""

    layout: str | None = None
    points: int | None = None
    sure_yes: float | None = None
    sure_no: float | None = None
    ask: str | None = None

    def __post_init__(self) -> None:
        check_prompter("pqpp", self.given)

    @property
    def given(self) -> dict[str, Any]:
        """The options that are said."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class FinetuneRecipe:
    """All that makes an adapter.

    Attributes:
        out: the adapter's folder; its checkpoints lie in ``out/checkpoints``.
        mllm: a folder or hub name of a transformers model.
        data: the sources that it is taught from.
        training: how to train.
        dialect: how the MLLM writes places; found from its configuration where None.
        device: as torch names it; the best there is where None.
        dtype: of the base's weights, as torch names it, or ``auto`` for the checkpoint's own.
        attention: the attention implementation, as transformers names it.
        trust_remote_code: whether code that comes with the MLLM may run.
        chat_template: a Jinja file in place of the MLLM's own template; an adapter keeps its text.
        rows: what the rows hold.
        pqpp: how an adapter is asked by PQPP.
        held_out: samples that are asked while it runs; none where None.
    """

    out: str
    mllm: str
    data: tuple[Source, ...]
    training: Training
    dialect: str | None = None
    device: str | None = None
    dtype: str = "auto"
    attention: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    rows: Rows = field(default_factory=Rows)
    pqpp: PqppOptions = field(default_factory=PqppOptions)
    held_out: HeldOut | None = None


LIBRARIES = ("torch", "transformers", "peft", "trl")


def card_of(recipe: FinetuneRecipe) -> Card:
    """What an adapter of this recipe says of itself; its base's fingerprint and its dialect are added in training.

    PQPP's options stand beside PPG's numbers of points; thresholds that nobody said are not known before they are
    measured.
    """
    local = recipe.mllm != TINY and Path(recipe.mllm).is_dir()
    folders = (folder for one in recipe.data for folder in (one.samples, one.targets, one.talks) if folder)
    return Card(
        base="",
        dialect="",
        base_name=str(Path(recipe.mllm).resolve()) if local else recipe.mllm,
        prompters={
            "ppg": {"positive": recipe.rows.positive, "negative": recipe.rows.negative},
            "pqpp": recipe.pqpp.given,
        },
        data=data(folders),
        versions={"sam4mllm": __version__, **{name: version(name) for name in LIBRARIES}},
        chat_template=template_of(recipe),
    )


def template_of(recipe: FinetuneRecipe) -> str | None:
    """The text of the recipe's chat template, where it has one.

    Raises:
        UserError: for a file that cannot be read.
    """
    if recipe.chat_template is None:
        return None
    try:
        file = Path(recipe.chat_template)
        return (file if file.exists() else shipped_file(recipe.chat_template) or file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the chat template {recipe.chat_template}: {error}") from error


def prepared(recipe: FinetuneRecipe) -> Corpus:
    """What the recipe teaches, once all of it is checked that can be without the model.

    Raises:
        UserError: as `run` does.
    """
    if recipe.training.quantize is not None:
        check_four_bits()
    return taught_by(recipe)


def taught_by(recipe: FinetuneRecipe) -> Corpus:
    """What the recipe teaches, once its names are checked, and that the files are there.

    Raises:
        UserError: for whatever of that cannot be used.
    """
    check_mllm(recipe.mllm, dialect=recipe.dialect)
    check_dtype(recipe.dtype)
    check_reports(recipe.training.report_to)
    template_of(recipe)
    found = corpus(read_sources(recipe.data), recipe.rows)
    check_files(found)
    return found
