"""From a name on a command line to the object it names. Knows every backend, and imports one when it is built.

Names are checked before anything is loaded (`check_*`), so that a slip of the pen does not cost the minutes that a
large model takes to load.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sam4mllm.errors import UserError
from sam4mllm.mllm import MLLM
from sam4mllm.prompters import Prompter
from sam4mllm.data.samples import Sample
from sam4mllm.segmenters import Segmenter

Option = str | int | float

TINY = "tiny"
SEGMENTERS = ("box", "grabcut", TINY, "vit_b:FILE", "vit_l:FILE", "vit_h:FILE")
ORACLE = "oracle"
PROMPTERS = ("ppg", "pqpp", "adaptive", "verified", "box", ORACLE)
DTYPES = ("auto", "float32", "bfloat16", "float16")
_CHECKPOINT = ("vit_b", "vit_l", "vit_h")
_REPLAY = "replay:"
EMBEDDED = Path(__file__).parent / "tiny" / "weights"
"""The folders of the models that come with the package, which know synthetic scenes."""


def check_mllm(spec: str, adapter: str | None = None, dialect: str | None = None) -> None:
    """Refuse what no `build_mllm` can mean; a hub name is only seen to have the shape of one.

    Raises:
        UserError: listing the choices.
    """
    from sam4mllm.language.dialects import dialect as dialect_named

    if dialect is not None:
        dialect_named(dialect)
    if spec.startswith(_REPLAY):
        _need_file(spec, Path(spec.removeprefix(_REPLAY)))
        if adapter is not None:
            raise UserError(f"{spec} is no model, and takes no adapter")
    elif spec != TINY and not _may_be_hub_or_folder(spec):
        given = f"unknown model {spec!r}" if spec else "no MLLM is named"
        raise UserError(f"{given}: give a folder, a hub name (owner/name), tiny or replay:FILE")
    elif adapter is not None and not Path(adapter).is_dir():
        raise UserError(f"no such folder: {adapter}: an adapter is the folder that holds a LoRA")
    elif adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
        raise UserError(
            f"no adapter at {adapter!r}: give a folder with adapter_config.json, which a training ends with"
        )


def check_dtype(dtype: str) -> None:
    """Refuse a dtype that no weights are loaded in.

    Raises:
        UserError: listing the choices.
    """
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}: choose from {', '.join(DTYPES)}")


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
    _check_device(device)
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


def check_segmenter(spec: str, single_mask: bool = False) -> None:
    """Refuse what no `build_segmenter` can mean; a hub name is only seen to have the shape of one.

    Raises:
        UserError: listing the choices, with the nearest.
    """
    kind, colon, path = spec.partition(":")
    if colon and kind in _CHECKPOINT:
        _need_file(spec, Path(path))
    elif spec not in SEGMENTERS[:3] and not _may_be_hub_or_folder(spec):
        raise _unknown("segmenter", spec, (*SEGMENTERS, "a folder", "a hub name (owner/name)"))
    elif spec in SEGMENTERS[:2] and single_mask:
        raise UserError(f"the segmenter {spec} gives one mask anyway: leave the single mask to models that give three")


def check_segmenter_alone(spec: str, device: str | None, dtype: str) -> None:
    """Refuse a device or a dtype that a segmenter, asked without an MLLM, would not use.

    Raises:
        UserError: for anything but the CPU where the segmenter has no weights, and for a dtype where it has none or
            a checkpoint's own.
    """
    if spec in SEGMENTERS[:2] and device not in (None, "cpu"):
        raise UserError(f"the segmenter {spec} runs on the CPU alone: leave out --device {device}")
    if dtype != "auto" and (spec in SEGMENTERS[:2] or spec.partition(":")[0] in _CHECKPOINT):
        raise UserError(f"the segmenter {spec} is loaded in no other dtype: leave out --dtype {dtype}")


def build_segmenter(
    spec: str, *, device: str | None = None, dtype: str = "auto", single_mask: bool = False
) -> Segmenter:
    """The drawer that ``spec`` names.

    Args:
        spec: ``box``, ``grabcut``, ``tiny``, ``vit_b:FILE`` and its like for a segment_anything checkpoint, else a
            folder or hub name of a transformers model.
        device: as torch names it; the best there is where None.
        dtype: as torch names it, or ``auto`` for the checkpoint's own.
        single_mask: the model's one mask, and not the best of three by predicted IoU.

    Raises:
        UserError: for a name that means nothing, or a model that cannot be used.
    """
    check_segmenter(spec, single_mask)
    kind, _, path = spec.partition(":")
    match kind:
        case "box":
            from sam4mllm.segmenters.box import BoxSegmenter

            return BoxSegmenter()
        case "grabcut":
            from sam4mllm.segmenters.grabcut import GrabCutSegmenter

            return GrabCutSegmenter()
        case "vit_b" | "vit_l" | "vit_h":
            _check_device(device)
            from sam4mllm.segmenters.sam import SamSegmenter

            return SamSegmenter.load(Path(path), model=kind, device=device, multimask=not single_mask)
    _check_device(device)
    from sam4mllm.segmenters.hf import HfSegmenter

    folder = EMBEDDED / "sam" if spec == TINY else spec
    return HfSegmenter.load(folder, device=device, dtype=dtype, multimask=not single_mask)


def check_prompter(name: str, options: Mapping[str, Option]) -> None:
    """Refuse an unknown strategy, an option that is not its own, or a value that it refuses; no model is needed.

    Raises:
        UserError: saying what is allowed.
    """
    from sam4mllm.mllm.scripted import ScriptedMLLM

    build_prompter(name, ScriptedMLLM(lambda *_: ""), options, ())


def check_together(segmenter: str, prompter: str, options: Mapping[str, Option]) -> None:
    """Refuse a segmenter that cannot take what a strategy with these options gives.

    Raises:
        UserError: for points to a segmenter of boxes.
    """
    pointless = prompter == "box" or (prompter == ORACLE and options.get("positive") == options.get("negative") == 0)
    if segmenter == "box" and not pointless:
        raise UserError(f"the segmenter box takes no points, and the prompter {prompter} gives them: use box")


def build_prompter(
    name: str, mllm: MLLM | None, options: Mapping[str, Option], samples: Iterable[Sample] = ()
) -> Prompter:
    """The strategy of that name over a talker, or over the truth.

    Args:
        name: one of `PROMPTERS`.
        mllm: who is asked; None for the oracle.
        options: the constructor's other arguments, those that are not to be its defaults.
        samples: whose masks the oracle makes its prompts of; no other strategy sees them.

    Raises:
        UserError: as `check_prompter` does.
    """
    strategy = _strategy(name)
    allowed = list(inspect.signature(strategy).parameters)[1:]
    for option in options:
        if option not in allowed:
            takes = ", ".join(allowed) or "no options"
            raise UserError(f"the prompter {name} has no option {option.replace('_', '-')!r}; it takes {takes}")
    return strategy(samples if name == ORACLE else mllm, **options)


def _strategy(name: str) -> Callable[..., Prompter]:
    match name:
        case "ppg":
            from sam4mllm.prompters.ppg import PPG

            return PPG
        case "pqpp":
            from sam4mllm.prompters.pqpp import PQPP

            return PQPP
        case "adaptive":
            from sam4mllm.prompters.adaptive import AdaptivePQPP

            return AdaptivePQPP
        case "verified":
            from sam4mllm.prompters.pqpp import verified

            return verified
        case "box":
            from sam4mllm.prompters.box import BoxPrompter

            return BoxPrompter
        case "oracle":
            from sam4mllm.prompters.oracle import Oracle

            return Oracle.of
    raise _unknown("prompter", name, PROMPTERS)


def _may_be_hub_or_folder(spec: str) -> bool:
    """A folder that is there, or ``owner/name``; a path that is not there is neither."""
    if spec and Path(spec).is_dir():
        return True
    owner, _, name = spec.partition("/")
    return owner not in ("", ".", "..", "~") and bool(name) and "/" not in name and not Path(spec).exists()


def _check_device(device: str | None) -> None:
    """Refuse a device that torch does not know or cannot reach, before the minutes of loading."""
    if device is None:
        return
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        raise UserError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from error


def _need_file(spec: str, path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{spec}: no such file: {path}")


def _unknown(what: str, name: str, choices: Sequence[str]) -> UserError:
    near = difflib.get_close_matches(name, [choice.partition(":")[0] for choice in choices], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    given = f"unknown {what} {name!r}" if name else f"no {what} is named"
    return UserError(f"{given}: {hint}choose from {', '.join(choices)}")
