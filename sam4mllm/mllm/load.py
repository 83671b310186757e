"""Loads the `MLLM` that a name on the command line or in a recipe stands for."""

from __future__ import annotations

from pathlib import Path

from sam4mllm.errors import UserError
from sam4mllm.mllm import MLLM
from sam4mllm.runtime.specs import EMBEDDED, TINY, check_device, check_file_of, may_be_hub_or_folder

_REPLAY = "replay:"


def check_mllm(spec: str, adapter: str | None = None, dialect: str | None = None) -> None:
    """Check the arguments of `build_mllm` without reading weights. Only the form of a hub name is checked.

    Raises:
        UserError: if `build_mllm` cannot use them; the message lists the choices.
    """
    from sam4mllm.language.dialects import dialect as dialect_named

    if dialect is not None:
        dialect_named(dialect)
    if spec.startswith(_REPLAY):
        check_file_of(spec, Path(spec.removeprefix(_REPLAY)))
        if adapter is not None:
            raise UserError(f"{spec} is a recording and takes no adapter: remove the adapter")
    elif spec != TINY and not may_be_hub_or_folder(spec):
        problem = f"unknown model {spec!r}" if spec else "no MLLM was set"
        raise UserError(f"{problem}: give a folder, a hub name (owner/name), tiny or replay:FILE")
    elif adapter is not None and not Path(adapter).is_dir():
        raise UserError(f"no such folder: {adapter}: an adapter is the folder of a LoRA")
    elif adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
        raise UserError(
            f"no adapter at {adapter!r}: give the output folder of a training run, with adapter_config.json"
        )


def build_mllm(
    spec: str,
    *,
    adapter: str | None = None,
    dialect: str | None = None,
    device: str | None = None,
    dtype: str = "auto",
    device_map: str | None = None,
    attention: str | None = None,
    four_bits: bool = False,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
) -> MLLM:
    """The MLLM that ``spec`` names, with its weights loaded.

    Args:
        spec: a folder or hub name of a transformers model, ``tiny``, or ``replay:FILE`` for recorded replies.
        adapter: the folder of a LoRA trained for this model.
        dialect: the notation of places. By default it follows from the model's configuration; a replay uses the
            paper's.
        device: a torch device; the best available one by default.
        dtype: a torch dtype, or ``auto`` for the checkpoint's own.
        device_map: how to distribute the model over devices, instead of ``device``.
        attention: the attention implementation, as transformers names it.
        four_bits: whether to quantize the weights to 4 bits, for training on one small GPU.
        trust_remote_code: whether code that ships with the model may run.
        chat_template: a Jinja template that replaces the model's own; by default the one the adapter was trained with.

    Raises:
        UserError: if the name is unknown, the model cannot be used, or a replay is given options it does not support.
    """
    check_mllm(spec, adapter, dialect)
    if spec.startswith(_REPLAY):
        from sam4mllm.language.dialects import dialect as dialect_named
        from sam4mllm.mllm.scripted import ScriptedMLLM

        return ScriptedMLLM.replay(Path(spec.removeprefix(_REPLAY)), dialect_named(dialect or "sam4mllm"))
    check_device(device)
    from sam4mllm.mllm.hf.model import HfMLLM

    return HfMLLM.load(
        model_path(spec),
        adapter=adapter,
        dialect=dialect,
        dtype=dtype,
        device=device,
        device_map=device_map,
        attention=attention,
        four_bits=four_bits,
        trust_remote_code=trust_remote_code,
        chat_template=chat_template,
    )


def model_path(spec: str) -> str | Path:
    """The folder or hub name from which transformers loads ``spec``. Embedded models have a folder in the package."""
    return EMBEDDED / "mllm" if spec == TINY else spec
