"""What `sam4mllm merge` does: an adapter and its base to one model, which needs neither peft nor the base."""

from __future__ import annotations

import shutil
from pathlib import Path

from sam4mllm.errors import UserError
from sam4mllm.mllm.adapter_card import CARD, Card
from sam4mllm.mllm.hf.adapter import merged
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.load import build_mllm, check_mllm
from sam4mllm.runtime.files import check_folder, one_line
from sam4mllm.runtime.specs import check_dtype


def merge(adapter: Path, out: Path, *, mllm: str = "", dtype: str = "auto", trust_remote_code: bool = False) -> Path:
    """Write the base with the adapter's weights added, its processor and the adapter's card, whole or not at all.

    The configuration names the dialect, and the card what the adapter's did, so that the folder is asked like the
    adapter.

    Args:
        adapter: its folder.
        out: must be new, or empty.
        mllm: the base; the one that the card names where empty.
        dtype: of the merged weights; in bfloat16 the sums are rounded, which float32 avoids.
        trust_remote_code: whether code that comes with the base may run.

    Returns:
        ``out``.

    Raises:
        UserError: for an adapter without a card or of another base, a base that cannot be loaded, and an ``out`` that
            holds something or is the working folder.
    """
    card = Card.read(adapter)
    if card is None:
        raise UserError(f"{adapter} is no adapter of sam4mllm: it has no {CARD}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} holds something already: give a new folder")
    if out.resolve() == Path.cwd():  # which is put in its place whole, and would leave a shell nowhere
        raise UserError(f"{out} is the folder that this runs in: give a new one")
    check_folder(out)
    check_dtype(dtype)
    check_mllm(mllm or card.base_name, str(adapter))
    base = build_mllm(
        mllm or card.base_name,
        device="cpu",
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        chat_template=card.chat_template,
    )
    if not isinstance(base, HfMLLM):
        raise UserError(f"{mllm} is no model, and nothing can be merged into it")
    model, card = merged(base.model, adapter)
    model.config.sam4mllm_dialect = card.dialect
    part = out.with_name(f".{out.name}.part")
    with one_line(out):
        shutil.rmtree(part, ignore_errors=True)
        model.save_pretrained(part)
        base.processor.save_pretrained(part)
        card.write(part)
        part.replace(out)
    return out
