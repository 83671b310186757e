"""Merges an adapter into its base, for `sam4mllm merge`; the result needs neither peft nor the base."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from sam4mllm.errors import UserError
from sam4mllm.mllm.adapter_card import CARD, AdapterCard
from sam4mllm.mllm.hf.adapter import merge_adapter
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.load import MLLMSpec
from sam4mllm.runtime.files import check_folder, os_errors_as_user_errors


def merge(adapter: Path, out: Path, *, mllm: str = "", dtype: str = "auto", trust_remote_code: bool = False) -> Path:
    """Write the merged model with its processor and the adapter's card; on an error, write nothing.

    The configuration contains the dialect, and the card the adapter's options, so the merged model is prompted like
    the adapter.

    Args:
        adapter: the adapter's folder.
        out: the output folder; it must be new or empty.
        mllm: the base; if empty, the base that the card names.
        dtype: dtype of the merged weights; bfloat16 rounds the sums, float32 does not.
        trust_remote_code: whether code that comes with the base may run.

    Returns:
        ``out``.

    Raises:
        UserError: if the adapter has no card or belongs to another base, the base cannot be loaded, or ``out`` is not
            empty or is the working folder.
    """
    card = AdapterCard.read(adapter)
    if card is None:
        raise UserError(f"{adapter} is not a sam4mllm adapter: it has no {CARD}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: give a new folder")
    if out.resolve() == Path.cwd():  # the folder is replaced, which would remove the working folder of the shell
        raise UserError(f"{out} is the working folder: give a new folder")
    check_folder(out)
    spec = MLLMSpec(
        mllm or card.base_name,
        str(adapter),
        device="cpu",
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        chat_template=card.chat_template,
    )
    base = replace(spec, adapter=None).load()
    if not isinstance(base, HfMLLM):
        raise UserError(f"{mllm or card.base_name} is not a transformers model: an adapter cannot be merged into it")
    model, card = merge_adapter(base.model, adapter)
    model.config.sam4mllm_dialect = card.dialect
    part = out.with_name(f".{out.name}.part")
    with os_errors_as_user_errors(out):
        shutil.rmtree(part, ignore_errors=True)
        model.save_pretrained(part)
        base.processor.save_pretrained(part)
        card.write(part)
        part.replace(out)
    return out
