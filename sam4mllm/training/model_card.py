"""The model card beside what was learned: ``README.md``, with the front matter that the Hugging Face hub reads.

Only what is known is said: figures are those of the training's own log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sam4mllm.mllm.adapter_card import Card
from sam4mllm.runtime.files import write_text
from sam4mllm.training.checkpoints import BEST_BY, VALIDATION, best_step


def write_model_card(folder: Path, card: Card, history: Sequence[Mapping[str, Any]], adapter: bool) -> None:
    """Write ``README.md`` into a trained model's folder.

    Args:
        folder: of the model; its recipe, where it was trained by one, lies there as ``recipe.yaml``.
        card: of the model.
        history: the trainer's log.
        adapter: whether the folder holds an adapter, and not all weights.
    """
    recipe = (folder / "recipe.yaml").is_file()
    write_text(folder / "README.md", model_card(card, history, adapter, recipe))


def model_card(card: Card, history: Sequence[Mapping[str, Any]], adapter: bool, recipe: bool) -> str:
    """The card's text; ``recipe`` is whether one lies beside it."""
    local = Path(card.base_name).is_absolute()  # a folder, which is nobody else's: its own name will do
    front = {
        **({"base_model": card.base_name} if "/" in card.base_name and not local else {}),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "image-segmentation",
        "tags": ["sam4mllm", "referring-expression-segmentation", *(["lora"] if adapter else [])],
    }
    option = "--adapter" if adapter else "--mllm"
    taught = f"`{Path(card.base_name).name if local else card.base_name}`" if card.base_name else "its base"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {taught}, taught to say masks in words",
        f"A {'LoRA' if adapter else 'model'} of {taught} that answers a referring expression with boxes and signed "
        f"points, which a segmenter draws as a mask (SAM4MLLM, ECCV 2024). Places are written in the dialect "
        f"`{card.dialect}`, questions are asked in wording {card.wording}.",
        '## Use\n\n```bash\nsam4mllm infer kitchen.jpg --phrase "the mug" '
        f"{option} THIS_FOLDER --segmenter facebook/sam-vit-huge --out out\n```",
        "## Training\n\n```bash\nsam4mllm finetune THIS_FOLDER/recipe.yaml out=ANOTHER_FOLDER\n```" if recipe else "",
        _table("Figures of the training's own log", _figures(history)),
        _table("Data, and its SHA-256", card.data),
        _table("Libraries", card.versions),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The last loss, the last validation scores, and the best step of those that were measured alike."""
    losses = [entry for entry in history if "loss" in entry]
    validations = [entry for entry in history if any(name.startswith(VALIDATION) for name in entry)]
    figures = {f"loss, step {entry['step']}": f"{entry['loss']:.4f}" for entry in losses[-1:]}
    for entry in validations[-1:]:
        for name, value in entry.items():
            if name.startswith(VALIDATION):
                figures[f"validation: {name.removeprefix(VALIDATION)}, step {entry['step']}"] = f"{value:.4f}"
    best = best_step(history, BEST_BY)
    if best is not None:
        highest = next(entry[BEST_BY] for entry in validations if entry["step"] == best)
        figures[f"validation: highest cIoU, step {best} (`checkpoints/checkpoint-{best}`)"] = f"{highest:.4f}"
    return figures


def _table(title: str, rows: Mapping[str, str]) -> str:
    if not rows:
        return ""
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"## {title}\n\n| | |\n| --- | --- |\n{lines}"
