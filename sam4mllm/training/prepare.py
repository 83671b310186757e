"""Checks a fine-tuning recipe before its model is loaded, and reads its data and the adapter's card."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from sam4mllm.errors import UserError
from sam4mllm.mllm.adapter_card import AdapterCard
from sam4mllm.mllm.hf.quantized import check_four_bits
from sam4mllm.mllm.load import MLLMSpec
from sam4mllm.runtime.provenance import hash_indices, versions
from sam4mllm.runtime.recipes import shipped_file
from sam4mllm.runtime.specs import TINY
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.dataset.corpus import Corpus, check_files, corpus, read_sources


def make_card(recipe: FinetuneConfig) -> AdapterCard:
    """The card of the recipe's adapter; training adds the base's fingerprint and the dialect.

    The card contains PQPP's thresholds only if the recipe sets them; otherwise they are unknown until calibration.
    """
    local = recipe.mllm != TINY and Path(recipe.mllm).is_dir()
    folders = (folder for part in recipe.data for folder in (part.samples, part.targets, part.talks) if folder)
    return AdapterCard(
        base="",
        dialect="",
        base_name=str(Path(recipe.mllm).resolve()) if local else recipe.mllm,
        prompters=_prompters(recipe),
        data=hash_indices(folders),
        versions=versions("torch", "transformers", "peft", "trl"),
        chat_template=read_chat_template(recipe),
    )


def _prompters(recipe: FinetuneConfig) -> dict[str, dict[str, Any]]:
    """The options of each prompter that the rows train."""
    weights = recipe.rows.mixture
    options: dict[str, dict[str, Any]] = {}
    if weights.ppg:
        options["ppg"] = {"positive": recipe.rows.positive, "negative": recipe.rows.negative}
    if weights.pqpp or weights.listed:
        options["pqpp"] = recipe.pqpp.set_options
    return options


def read_chat_template(recipe: FinetuneConfig) -> str | None:
    """The text of the recipe's chat template; None if the recipe has none.

    Raises:
        UserError: if the file cannot be read.
    """
    if recipe.chat_template is None:
        return None
    try:
        file = Path(recipe.chat_template)
        return (file if file.exists() else shipped_file(recipe.chat_template) or file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the chat template {recipe.chat_template}: {error}") from error


def read_corpus(recipe: FinetuneConfig, plan_only: bool = False) -> Corpus:
    """Check the recipe's names and files, and return the training data.

    Args:
        recipe: the recipe.
        plan_only: whether nothing will be trained, so that no GPU is needed.

    Raises:
        UserError: if a value of the recipe is not valid.
    """
    if recipe.training.quantize is not None and not plan_only:
        check_four_bits()
    MLLMSpec(recipe.mllm, dialect=recipe.dialect, dtype=recipe.dtype)
    check_reports(recipe.training.reports)
    read_chat_template(recipe)
    training_data = corpus(read_sources(recipe.data), recipe.rows)
    check_files(training_data)
    return training_data


def check_reports(names: Sequence[str]) -> None:
    """Check that transformers has these reporting integrations and that their packages are installed.

    Raises:
        UserError: if an integration is unknown (the message lists the known names) or its package is missing.
    """
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise UserError(f"unknown training.report_to {name!r}: choose from {', '.join(INTEGRATION_TO_CALLBACK)}")
        if importlib.util.find_spec(name) is None:
            extra = "sam4mllm[tensorboard]" if name == "tensorboard" else name
            raise UserError(f"training.report_to {name} needs a package: pip install {extra}")
