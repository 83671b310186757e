"""From a name on a command line or in a recipe to the `MLLM` it names; weights are read when one is built."""

from __future__ import annotations

from pathlib import Path

from sam4mllm.errors import UserError
from sam4mllm.mllm import MLLM
from sam4mllm.runtime.specs import EMBEDDED, TINY, check_device, check_file_of, may_be_hub_or_folder

_REPLAY = "replay:"


def check_mllm(spec: str, adapter: str | None = None, dialect: str | None = None) -> None:
    """Refuse what no `build_mllm` can mean; a hub name is only seen to have the shape of one.

    Raises:
        UserError: listing the choices.
    """
    from sam4mllm.language.dialects import dialect as dialect_named

    if dialect is not None:
        dialect_named(dialect)
    if spec.startswith(_REPLAY):
        check_file_of(spec, Path(spec.removeprefix(_REPLAY)))
        if adapter is not None:
            raise UserError(f"{spec} is no model, and takes no adapter")
    elif spec != TINY and not may_be_hub_or_folder(spec):
        given = f"unknown model {spec!r}" if spec else "no MLLM is named"
        raise UserError(f"{given}: give a folder, a hub name (owner/name), tiny or replay:FILE")
    elif adapter is not None and not Path(adapter).is_dir():
        raise UserError(f"no such folder: {adapter}: an adapter is the folder that holds a LoRA")
    elif adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
        raise UserError(
            f"no adapter at {adapter!r}: give a folder with adapter_config.json, which a training ends with"
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
    """The talker that ``spec`` names.

    Args:
        spec: a folder or hub name of a transformers model, ``tiny``, or ``replay:FILE`` for recorded replies.
        adapter: the folder of a LoRA trained for it.
        dialect: how it writes places; where None found from the model's configuration, and the paper's
            own for a replay.
        device: as torch names it; the best there is where None.
        dtype: as torch names it, or ``auto`` for the checkpoint's own.
        device_map: how to spread it over devices, in place of ``device``.
        attention: the attention implementation, as transformers names it.
        four_bits: whether to pack its weights for a training on one small GPU.
        trust_remote_code: whether code that comes with the model may run.
        chat_template: a Jinja text in place of the model's own; the one that the adapter was taught by default.

    Raises:
        UserError: for a name that means nothing, a model that cannot be used, or options that a replay has no use for.
    """
    check_mllm(spec, adapter, dialect)
    if spec.startswith(_REPLAY):
        from sam4mllm.language.dialects import dialect as dialect_named
        from sam4mllm.mllm.scripted import ScriptedMLLM

        return ScriptedMLLM.replay(Path(spec.removeprefix(_REPLAY)), dialect_named(dialect or "sam4mllm"))
    check_device(device)
    from sam4mllm.mllm.hf.model import HfMLLM

    return HfMLLM.load(
        model_at(spec),
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


def model_at(spec: str) -> str | Path:
    """Where transformers finds the model that ``spec`` names: one that comes with the package has a folder there."""
    return EMBEDDED / "mllm" if spec == TINY else spec
