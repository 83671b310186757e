"""Options that several commands share, declared once, in help panels. `with_options` adds them to a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from sam4mllm.config import PipelineConfig

MODEL, PROMPTING, SEGMENTER, OUTPUT, HARDWARE = "Model", "Prompting", "Segmenter", "Output", "Hardware"


def declare(name: str, help_text: str, panel: str, **settings: Any) -> Any:
    """An option with its help text, in a help panel."""
    return typer.Option(name, help=help_text, rich_help_panel=panel, **settings)


Samples = Annotated[Path, typer.Argument(help="Folder of samples.", show_default=False)]
Predictions = Annotated[Path, typer.Argument(help="Predictions of these samples, NAME.jsonl.", show_default=False)]
Images = Annotated[Path | None, typer.Option("--images", help="Image root, if the images were moved.")]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="Rules of the metrics: lavt (RES), rela (GRES), lisa (ReasonSeg); gsva, bool-ignore (of other papers). "
        "Default: chosen from the samples.",
        show_default=False,
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option("--by", help="Also print a table by size, share, aspect, words, targets or kind. Repeatable."),
]
Draws = Annotated[int, typer.Option("--draws", min=1, help="Bootstrap draws of the 95% intervals.")]
BootstrapSeed = Annotated[int, typer.Option("--seed", min=0, help="Random seed of the bootstrap.")]


@dataclass(frozen=True)
class ModelOptions:
    """The MLLM and its adapter."""

    mllm: Annotated[
        str,
        declare(
            "--mllm",
            "MLLM: folder or hub name of a transformers model, tiny, or replay:FILE. Default: the adapter's base.",
            MODEL,
            show_default=False,
        ),
    ] = ""
    adapter: Annotated[str | None, declare("--adapter", "Folder of a LoRA adapter trained for the MLLM.", MODEL)] = None
    dialect: Annotated[
        str | None,
        declare(
            "--dialect", "Notation of the MLLM for boxes and points. Default: from the MLLM's configuration.", MODEL
        ),
    ] = None
    attention: Annotated[
        str | None, declare("--attention", "Attention implementation of the MLLM, as transformers names it.", MODEL)
    ] = None
    trust_remote_code: Annotated[
        bool, declare("--trust-remote-code", "Run Python code that comes with the MLLM.", MODEL)
    ] = False


@dataclass(frozen=True)
class PromptingOptions:
    """The prompting strategy and its options; None is the strategy's default."""

    prompter: Annotated[
        str,
        declare(
            "--prompter",
            "Strategy: ppg (box and points in one reply), pqpp (box, then yes or no per point), adaptive (pqpp with "
            "more points where answers are uncertain), verified (pqpp without fine-tuning), box (no points), or "
            "oracle (prompts from the ground truth). Default: the adapter's; box without an adapter.",
            PROMPTING,
            show_default=False,
        ),
    ] = ""
    positive: Annotated[
        int | None, declare("--positive", "ppg, oracle: positive points per object. Default: 3.", PROMPTING)
    ] = None
    negative: Annotated[
        int | None, declare("--negative", "ppg, oracle: negative points per object. Default: 3.", PROMPTING)
    ] = None
    layout: Annotated[
        str | None,
        declare("--layout", "pqpp: layout of points: grid, low-discrepancy or interior. Default: grid.", PROMPTING),
    ] = None
    points: Annotated[
        int | None,
        declare(
            "--points", "Points per box. Default: 25 for pqpp, 9 for verified, 9 in adaptive's first round.", PROMPTING
        ),
    ] = None
    budget: Annotated[
        int | None, declare("--budget", "adaptive: maximum number of points per box. Default: 25.", PROMPTING)
    ] = None
    sure_yes: Annotated[
        float | None,
        declare("--sure-yes", "pqpp, adaptive: P(yes) above which a point is positive. Default: 0.75.", PROMPTING),
    ] = None
    sure_no: Annotated[
        float | None,
        declare("--sure-no", "pqpp, adaptive: P(no) above which a point is negative. Default: 0.9.", PROMPTING),
    ] = None
    ask: Annotated[
        str | None,
        declare("--ask", "pqpp: one point per question (one), or all in one (list). Default: one.", PROMPTING),
    ] = None
    seed: Annotated[int | None, declare("--seed", "oracle: random seed of the points. Default: 0.", PROMPTING)] = None


@dataclass(frozen=True)
class SegmenterOptions:
    """The segmenter."""

    segmenter: Annotated[
        str,
        declare(
            "--segmenter",
            "Segmenter: folder or hub name of a transformers model, vit_b:FILE, vit_l:FILE or vit_h:FILE "
            "(segment_anything), tiny, grabcut, or box (the filled box).",
            SEGMENTER,
            show_default=False,
        ),
    ] = ""
    single_mask: Annotated[
        bool, declare("--single-mask", "Use SAM's single-mask output instead of the best of three.", SEGMENTER)
    ] = False


@dataclass(frozen=True)
class DeviceOptions:
    """The device and dtype of models."""

    device: Annotated[
        str | None,
        declare(
            "--device",
            "Torch device; with several workers, a comma-separated list. Default: CUDA if available.",
            HARDWARE,
        ),
    ] = None
    dtype: Annotated[
        str, declare("--dtype", "Dtype of the weights, as torch names it; auto: the checkpoint's dtype.", HARDWARE)
    ] = "auto"


@dataclass(frozen=True)
class HardwareOptions(DeviceOptions):
    """The devices of an MLLM and a segmenter, and the batch size."""

    device_map: Annotated[
        str | None,
        declare(
            "--device-map", "Device map of the MLLM, as transformers names it (auto); replaces --device.", HARDWARE
        ),
    ] = None
    batch_size: Annotated[int, declare("--batch-size", "Expressions per batch.", HARDWARE, min=1)] = 4


@dataclass(frozen=True)
class WorkerOptions:
    """The number of processes, and a Ray cluster for them."""

    workers: Annotated[int, declare("--workers", "Processes, each with its own models.", HARDWARE, min=1)] = 1
    ray: Annotated[
        str | None, declare("--ray", "Run the workers on a Ray cluster: local, auto, or HOST:PORT.", HARDWARE)
    ] = None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Turn each parameter with an options class into the options of that class.

    The command has one parameter per class, for example ``model: ModelOptions``; on the command line each of its
    fields is an option, in the order of the parameters.
    """
    parameters = inspect.signature(command).parameters
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hints[name] for name in parameters if is_dataclass(hints.get(name))}

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    flat = []
    for name, parameter in parameters.items():
        if name not in groups:
            flat.append(parameter.replace(annotation=hints[name], kind=parameter.KEYWORD_ONLY))
            continue
        field_hints = get_type_hints(groups[name], include_extras=True)
        flat += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=field_hints[field.name],
            )
            for field in fields(groups[name])
        ]
    wrapper.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    del wrapper.__wrapped__  # typer would read the type hints of the wrapped function
    return wrapper


def pipeline_config(
    model: ModelOptions,
    prompting: PromptingOptions | None = None,
    segmenter: SegmenterOptions | None = None,
    hardware: HardwareOptions | None = None,
) -> PipelineConfig:
    """The configuration of a pipeline from options; a missing group has its defaults."""
    from sam4mllm.config import PipelineConfig

    prompter = {name: value for name, value in asdict(prompting or PromptingOptions()).items() if value is not None}
    values = {**asdict(model), **asdict(segmenter or SegmenterOptions()), **asdict(hardware or HardwareOptions())}
    del values["batch_size"]
    return PipelineConfig(prompter=prompter.pop("prompter"), options=prompter, **values)
