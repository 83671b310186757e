"""What `sam4mllm predict` does: a samples folder in, a file of predictions out, and why samples failed. Knows no model.

Beside the predictions lies what made them; two recipes never share a file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sam4mllm import __version__
from sam4mllm.config import Recipe
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.language.templates import WORDING
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import Answering, predict_parts
from sam4mllm.prediction.record import Prediction
from sam4mllm.prediction.store import Shard
from sam4mllm.prompters.load import ORACLE
from sam4mllm.runtime.files import check_file
from sam4mllm.runtime.parallel import Executor, InProcess
from sam4mllm.runtime.progress import Progress
from sam4mllm.runtime.provenance import within

LIBRARIES = ("peft", "torch", "transformers")
"""Whose versions predictions may depend on in a last bit."""
FAILED = "and count as empty until --retry-failed asks them again"
"""What becomes of samples that failed."""


def predict_set(
    recipe: Recipe,
    samples: SampleSet,
    out: Path,
    batch_size: int,
    progress: Progress,
    pipeline: Pipeline | None = None,
    executor: Executor | None = None,
    shard: Shard | None = None,
    *,
    retry_failed: bool = False,
) -> list[str]:
    """Make ``out`` hold one prediction per sample, going on where a stopped run left it.

    Names and the file are checked before a model is loaded; none is loaded where nothing is left to do.

    Args:
        recipe: what answers.
        samples: what to answer.
        out: a JSON Lines file, NAME.jsonl, made if need be; what lies beside it is named by NAME alone.
        batch_size: how many samples the model is asked about at once, 1 or more.
        progress: makes a bar of so many steps.
        pipeline: what ``recipe`` builds, where that was done already.
        executor: runs the parts; this process, on the recipe's device, if None.
        shard: which part of the samples is answered; all where None.
        retry_failed: whether samples that failed in an earlier run are answered again.

    Returns:
        The samples that failed, and why: ``id: reason`` each.

    Raises:
        UserError: for a recipe that cannot be built, or a file of another name, that cannot be written or holds
            something else; once all is written, where every sample failed.
    """
    recipe, shard = recipe.resolved(), shard or Shard()
    recipe.check(truth=True)
    if out.suffix != ".jsonl":
        raise UserError(f"predictions are JSON lines, in a file whose name ends with .jsonl, got {out}")
    check_file(shard.file(out))
    build = _Building(recipe, samples if recipe.prompter == ORACLE else None)
    work = Answering(build if pipeline is None else lambda _: pipeline, batch_size)
    told: list[str | None] = []
    with progress(len(samples), "answered") as advance:

        def tell(prediction: Prediction) -> None:
            advance()
            told.append(None if prediction.error is None else f"{prediction.id}: {prediction.error}")

        settings = settings_of(recipe, samples, batch_size)
        executor = executor or InProcess(recipe.device)
        predict_parts(samples, work, executor, out, shard, settings=settings, progress=tell, retry_failed=retry_failed)
    errors = [one for one in told if one is not None]
    if errors and len(errors) == len(told):
        raise UserError(f"all {len(errors)} samples failed, {FAILED}; the first: {errors[0]}")
    return errors


def settings_of(recipe: Recipe, samples: SampleSet, batch_size: int) -> dict[str, Any]:
    """What makes predictions: all but who makes them, so of the devices only their kind.

    Of an adapter also what it holds, for one is often trained again in its place.
    """
    kind = recipe.device.split(",")[0].split(":")[0] if recipe.device else None
    made = {**asdict(replace(recipe, device=kind)), "batch_size": batch_size, "images": str(samples.images)}
    learned = within(Path(recipe.adapter)) if recipe.adapter else []
    versions = {"sam4mllm": __version__, **{name: version(name) for name in LIBRARIES}}
    return {**made, "learned": learned, "wording": WORDING, "versions": versions}


@dataclass(frozen=True, slots=True)
class _Building:
    """Builds what answers, on a worker's device; the truth goes along for the oracle alone."""

    recipe: Recipe
    samples: SampleSet | None

    def __call__(self, device: str | None) -> Pipeline:
        return replace(self.recipe, device=device).build(self.samples)
