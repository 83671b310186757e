"""The model card ``README.md`` of a trained model, with front matter for the Hugging Face hub.

All figures come from the training log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sam4mllm.mllm.adapter_card import AdapterCard
from sam4mllm.runtime.files import write_text
from sam4mllm.training.checkpoints import BEST_BY, VALIDATION, best_step


def write_model_card(folder: Path, card: AdapterCard, history: Sequence[Mapping[str, Any]], adapter: bool) -> None:
    """Write ``README.md`` into a trained model's folder.

    Args:
        folder: the model's folder, which contains ``recipe.yaml`` if the model was trained by a recipe.
        card: the model's card.
        history: the trainer's log.
        adapter: whether the folder contains an adapter instead of all weights.
    """
    recipe = (folder / "recipe.yaml").is_file()
    write_text(folder / "README.md", model_card(card, history, adapter, recipe))


def model_card(card: AdapterCard, history: Sequence[Mapping[str, Any]], adapter: bool, recipe: bool) -> str:
    """The card's text; ``recipe`` is whether the folder contains ``recipe.yaml``."""
    local = Path(card.base_name).is_absolute()  # a local folder: only its name means something to others
    front = {
        **({"base_model": card.base_name} if "/" in card.base_name and not local else {}),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "image-segmentation",
        "tags": ["sam4mllm", "referring-expression-segmentation", *(["lora"] if adapter else [])],
    }
    option = "--adapter" if adapter else "--mllm"
    base = f"`{Path(card.base_name).name if local else card.base_name}`" if card.base_name else "its base"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {base} for referring expression segmentation",
        f"A {'LoRA' if adapter else 'fine-tuned version'} of {base} that answers a referring expression with boxes and "
        f"positive and negative points, which a segmenter turns into a mask (SAM4MLLM, ECCV 2024). Coordinates are "
        f"written in the dialect `{card.dialect}`; the prompts have wording version {card.wording}.",
        '## Use\n\n```bash\nsam4mllm infer kitchen.jpg --phrase "the mug" '
        f"{option} THIS_FOLDER --segmenter facebook/sam-vit-huge --out out\n```",
        "## Training\n\n```bash\nsam4mllm finetune THIS_FOLDER/recipe.yaml out=ANOTHER_FOLDER\n```" if recipe else "",
        _table("Training log", _figures(history)),
        _table("Training data (SHA-256)", {_short_path(path): digest for path, digest in card.data.items()}),
        _table("Libraries", card.versions),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _short_path(path: str) -> str:
    """The last three parts of an absolute path: the rest means nothing to others."""
    parts = Path(path).parts
    return "/".join(parts[-3:]) if Path(path).is_absolute() else path


def _figures(history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The last loss, the last validation scores, and the best step among scores measured like the last one."""
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
