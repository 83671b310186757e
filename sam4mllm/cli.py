"""The command line: words in, exit code out. Holds no logic; each command imports what it needs when it runs.

A `UserError` is one line on standard error and exit code 2, as is a wrong option; an interrupt is 130.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam4mllm.errors import UserError

if TYPE_CHECKING:
    from sam4mllm.recipe import Recipe

PROMPTER_OPTIONS = ("positive", "negative", "layout", "points", "sure_yes", "sure_no", "ask")

app = typer.Typer(
    help="Referring-expression segmentation with any multimodal LLM: a mask is said in words, and drawn.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Mllm = Annotated[
    str, typer.Option("--mllm", show_default=False, help="Folder or hub name of a transformers model, or replay:FILE.")
]
Segmenter = Annotated[
    str,
    typer.Option(
        "--segmenter", show_default=False, help="grabcut, box, vit_b|vit_l|vit_h:CHECKPOINT, or a folder or hub name."
    ),
]
Prompter = Annotated[
    str, typer.Option("--prompter", help="ppg: box and points at once; pqpp: box, then yes or no per point; box.")
]
Adapter = Annotated[str | None, typer.Option("--adapter", help="Folder of a LoRA trained for the MLLM.")]
Dialect = Annotated[
    str | None, typer.Option("--dialect", help="How the MLLM writes places; else found from its configuration.")
]
Device = Annotated[str | None, typer.Option("--device", help="As torch names it; else the best there is.")]
Dtype = Annotated[str, typer.Option("--dtype", help="As torch names it; auto: the checkpoint's own.")]
DeviceMap = Annotated[
    str | None, typer.Option("--device-map", help="How to spread the MLLM over devices, in place of --device.")
]
Attention = Annotated[
    str | None, typer.Option("--attention", help="The MLLM's attention implementation, as transformers names it.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="How many expressions are asked at once.")]
SingleMask = Annotated[bool, typer.Option("--single-mask", help="The segmenter's one mask, not its best of three.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let code that comes with the MLLM run on this machine.")
]
Positive = Annotated[int | None, typer.Option("--positive", help="ppg: points on the object. Default 3.")]
Negative = Annotated[int | None, typer.Option("--negative", help="ppg: points off the object. Default 3.")]
Layout = Annotated[str | None, typer.Option("--layout", help="pqpp: grid, low-discrepancy or interior. Default grid.")]
Points = Annotated[int | None, typer.Option("--points", help="pqpp: how many points are asked about. Default 25.")]
SureYes = Annotated[
    float | None, typer.Option("--sure-yes", help="pqpp: a point is on above this P(yes). Default .75.")
]
SureNo = Annotated[float | None, typer.Option("--sure-no", help="pqpp: a point is off above this P(no). Default .9.")]
Ask = Annotated[str | None, typer.Option("--ask", help="pqpp: one point a question, or a list. Default one.")]


@app.callback()
def _sam4mllm() -> None:
    """Referring-expression segmentation with any multimodal LLM: a mask is said in words, and drawn."""


@app.command()
def infer(
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures, or folders of them.")] = None,
    phrase: Annotated[list[str] | None, typer.Option("--phrase", help="What to look for; repeatable.")] = None,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="CSV or JSON lines with image and phrase, for pictures and phrases.")
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option("--box", help="x0,y0,x1,y1 by hand, in pixels; repeatable; asks no MLLM.")
    ] = None,
    click: Annotated[
        list[str] | None, typer.Option("--click", help="x,y,+ on or x,y,- off the object, beside a box; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for overlays, masks and records.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Records to standard output, one a line.")] = False,
    mllm: Mllm = "",
    adapter: Adapter = None,
    dialect: Dialect = None,
    prompter: Prompter = "ppg",
    positive: Positive = None,
    negative: Negative = None,
    layout: Layout = None,
    points: Points = None,
    sure_yes: SureYes = None,
    sure_no: SureNo = None,
    ask: Ask = None,
    segmenter: Segmenter = "",
    single_mask: SingleMask = False,
    batch_size: BatchSize = 4,
    device: Device = None,
    dtype: Dtype = "auto",
    device_map: DeviceMap = None,
    attention: Attention = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Find what phrases mean in pictures, and draw it."""
    recipe = _recipe(locals())
    from sam4mllm.infer import infer as answered
    from sam4mllm.pairs import requested

    if out is None and not as_json:
        raise UserError("nothing would be kept: give --out FOLDER, or --json for standard output")
    with _standard_output_kept() as print_line:
        request = requested(pictures or [], phrase or [], pairs, box or [], click or [])
        records = answered(recipe, request, out, batch_size)
        with _progress(len(request.pairs)) as advance:
            for record in records:
                advance()
                if as_json:
                    print_line(json.dumps(record))


@app.command()
def predict(
    samples: Annotated[Path, typer.Argument(help="Folder of samples.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Predictions, JSON lines; a stopped run goes on.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Root of the pictures, where they were moved.")
    ] = None,
    mllm: Mllm = "",
    adapter: Adapter = None,
    dialect: Dialect = None,
    prompter: Prompter = "ppg",
    positive: Positive = None,
    negative: Negative = None,
    layout: Layout = None,
    points: Points = None,
    sure_yes: SureYes = None,
    sure_no: SureNo = None,
    ask: Ask = None,
    segmenter: Segmenter = "",
    single_mask: SingleMask = False,
    batch_size: BatchSize = 4,
    device: Device = None,
    dtype: Dtype = "auto",
    device_map: DeviceMap = None,
    attention: Attention = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Answer every sample of a set, one line each."""
    recipe = _recipe(locals())
    from dataclasses import asdict

    from sam4mllm import __version__
    from sam4mllm.atomic import check_file
    from sam4mllm.dialogue import WORDING
    from sam4mllm.predict import predict as predicted
    from sam4mllm.predictions import Prediction
    from sam4mllm.samples import read_samples

    asked = read_samples(samples, images)
    recipe.check()
    check_file(out)
    pipeline = recipe.build()
    settings = {**asdict(recipe), "images": str(asked.images), "wording": WORDING, "sam4mllm": __version__}
    errors: list[str] = []
    with _progress(len(asked)) as advance:

        def tell(prediction: Prediction) -> None:
            advance()
            errors.extend([f"{prediction.id}: {prediction.error}"] if prediction.error else [])

        predicted(asked, pipeline, out, batch_size=batch_size, settings=settings, progress=tell)
    if errors:
        typer.echo(f"{len(errors)} of {len(asked)} samples failed and count as empty; the first: {errors[0]}", err=True)


@app.command()
def score(
    samples: Annotated[Path, typer.Argument(help="Folder of samples.", show_default=False)],
    predictions: Annotated[Path, typer.Argument(help="What predict made of them.", show_default=False)],
    profile: Annotated[str, typer.Option("--profile", help="lavt for RES, rela for GRES, lisa for ReasonSeg.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON in place of a table.")] = False,
) -> None:
    """The numbers of predictions, on the CPU."""
    from sam4mllm.predictions import read_predictions
    from sam4mllm.samples import read_samples
    from sam4mllm.score import score as scored
    from sam4mllm.score import table

    numbers = scored(read_samples(samples).samples, read_predictions(predictions), profile)
    typer.echo(json.dumps(numbers.to_json()) if as_json else table({samples.name: numbers}), nl=as_json)


def main() -> None:
    """The console entry."""
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _recipe(given: Mapping[str, Any]) -> Recipe:
    """The recipe that a command's arguments make: they bear its fields' names, and those of the prompters' options."""
    from dataclasses import fields

    from sam4mllm.recipe import Recipe

    options = {name: given[name] for name in PROMPTER_OPTIONS if given[name] is not None}
    return Recipe(options=options, **{field.name: given[field.name] for field in fields(Recipe) if field.name in given})


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error, advanced by the given function; none for a single thing."""
    if total < 2:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("answered"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def _standard_output_kept() -> Iterator[Callable[[str], None]]:
    """Standard output for what the block prints by the given function alone; what libraries print goes to the error."""
    standard = sys.stdout

    def print_line(text: str) -> None:
        try:
            standard.write(text + "\n")
            standard.flush()
        except BrokenPipeError:
            raise  # who read has read enough: typer ends in silence
        except OSError as error:
            raise UserError(f"cannot write to standard output: {error.strerror}") from error

    with contextlib.redirect_stdout(sys.stderr):
        yield print_line


if __name__ == "__main__":
    main()
