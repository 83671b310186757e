"""What `sam4mllm predict` does: a samples folder in, a file of predictions out, and why samples failed. Knows no model.

Beside the predictions lies what made them; two recipes never share a file.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from sam4mllm import __version__
from sam4mllm.atomic import check_file
from sam4mllm.dialogue import WORDING
from sam4mllm.pipeline import Pipeline
from sam4mllm.predict import predict
from sam4mllm.predictions import Prediction
from sam4mllm.recipe import Recipe
from sam4mllm.samples import SampleSet

Progress = Callable[[int, str], AbstractContextManager[Callable[..., None]]]


def predict_set(
    recipe: Recipe,
    samples: SampleSet,
    out: Path,
    batch_size: int,
    progress: Progress,
    pipeline: Pipeline | None = None,
) -> list[str]:
    """Make ``out`` hold one prediction per sample, going on where a stopped run left it.

    Names and the file are checked before a model is loaded.

    Args:
        recipe: what answers.
        samples: what to answer.
        out: a JSON Lines file, made if need be.
        batch_size: how many samples the model is asked about at once, 1 or more.
        progress: makes a bar of so many steps, entered when the models are loaded.
        pipeline: what ``recipe`` builds, where that was done already.

    Returns:
        The samples that failed, and why: ``id: reason`` each.

    Raises:
        UserError: for a recipe that cannot be built, or a file that cannot be written or holds something else.
    """
    recipe = recipe.resolved()
    recipe.check(truth=True)
    check_file(out)
    pipeline = pipeline or recipe.build(samples)
    settings = {**asdict(recipe), "images": str(samples.images), "wording": WORDING, "sam4mllm": __version__}
    errors: list[str] = []
    with progress(len(samples), "answered") as advance:

        def tell(prediction: Prediction) -> None:
            advance()
            errors.extend([f"{prediction.id}: {prediction.error}"] if prediction.error else [])

        predict(samples, pipeline, out, batch_size=batch_size, settings=settings, progress=tell)
    return errors
