"""The steps of the demo: scenes, targets, a LoRA, predictions and tables; finished steps are not repeated.

The steps are those of the commands targets, finetune, predict and score.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sam4mllm.data.samples import SampleSet
from sam4mllm.demo.recipe import Demo
from sam4mllm.demo.tables import format_tables, make_sheet
from sam4mllm.images.files import write_png
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.run import FAILED, predict_set
from sam4mllm.runtime.files import write_text
from sam4mllm.runtime.parallel import InProcess
from sam4mllm.runtime.progress import progress
from sam4mllm.synthetic.scenes import Level
from sam4mllm.synthetic.shards import write_scenes
from sam4mllm.targets.run import search_targets
from sam4mllm.training.run import run as finetune

log = logging.getLogger(__name__)
BATCH = 32


def run(recipe: Demo) -> str:
    """Run all steps, write predictions, ``table.md`` and ``sheet.png``, and return the tables.

    Raises:
        UserError: if a value is not valid, or the folder was started with another recipe.
    """
    recipe.check()
    out, level = Path(recipe.out), Level(objects=recipe.objects)
    recipe.record_in(out / "demo.yaml")
    train = write_scenes(out / "shapes", "train", recipe.train_scenes, level)
    test = write_scenes(out / "shapes", "test", recipe.test_scenes, level)
    adapter = _train_adapter(recipe, train, out)
    predictions = {}
    for name, way in recipe.pipeline_configs(adapter).items():
        file = out / f"{name}.jsonl"
        errors = predict_set(way, test, file, BATCH, progress)
        predictions[name] = read_predictions(file)
        log.info("%s: done%s", name, f", {len(errors)} failed: {FAILED}; the first: {errors[0]}" if errors else "")
    tables = format_tables(list(test), predictions)
    write_text(out / "table.md", tables)
    write_png(out / "sheet.png", make_sheet(test, predictions, recipe.images))
    return tables


def _train_adapter(recipe: Demo, samples: SampleSet, out: Path) -> Path:
    """Search targets for the samples, train a LoRA on them, and return its folder."""
    summary_line = search_targets(
        samples, out / "targets", recipe.seeded_search, recipe.segmenter, InProcess("cpu"), progress
    )
    log.info("targets: %s", summary_line)
    adapter = out / "adapter"
    if not (adapter / "sam4mllm.json").exists():
        finetune(recipe.finetune_config(out / "shapes" / "train", out / "targets", adapter))
    return adapter
