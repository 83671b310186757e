"""A training loop for the embedded models: Muon and AdamW, one schedule, checkpoints that a stopped run goes on from.

Knows neither models nor lessons.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam4mllm.errors import UserError
from sam4mllm.runtime.files import atomic_path

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.pt"
CLIP = 1.0
WARMUP = 60  # steps


@dataclass(frozen=True)
class Loop:
    """How to train.

    Attributes:
        eyes: steps of the first part, in which the picture's encoder is taught alone, at one learning rate.
        steps: of the second part, with a cosine to a thirtieth of the learning rate.
        learning_rate: of both optimizers.
        every: steps between checkpoints.

    Raises:
        UserError: for numbers that are none of these.
    """

    eyes: int
    steps: int
    learning_rate: float = 2e-3
    every: int = 300

    def __post_init__(self) -> None:
        if min(self.eyes, self.steps) < 0 or self.every < 1 or not self.learning_rate > 0:
            raise UserError(
                f"a loop has 0 or more steps of each part, a learning rate above 0 and checkpoints every 1 or more "
                f"steps, got {self}"
            )


def about(recipe: Any) -> str:
    """What decides the weights: all of a recipe but where its model goes, and how often it is saved."""
    values = {name: value for name, value in asdict(recipe).items() if name != "out"}
    return str(values | {"loop": {name: value for name, value in values["loop"].items() if name != "every"}})


def share(step: int, loop: Loop) -> float:
    """The learning rate of a step, as a share of the highest: each part begins with a short rise."""
    if step < loop.eyes:
        return min(1.0, (step + 1) / WARMUP)
    step -= loop.eyes
    return min(1.0, (step + 1) / WARMUP) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * step / max(loop.steps, 1))))


def optimizers(modules: Sequence[nn.Module], learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the matrices of linear layers, AdamW for all other weights, tied ones once."""
    inner = {
        layer.weight
        for module in modules
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and "lm_head" not in name
    }
    every = dict.fromkeys(weight for module in modules for weight in module.parameters())
    matrices = [weight for weight in every if weight in inner]
    others = [weight for weight in every if weight not in inner]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def train(
    modules: dict[str, nn.Module],
    loss: Callable[[int], tuple[Tensor, dict[str, float]]],
    loop: Loop,
    out: Path,
    saved: Callable[[int], None],
    about: str = "",
) -> None:
    """Train, or go on from the checkpoint of a run that was stopped, to the same weights.

    Args:
        modules: by name, whose weights are trained in place.
        loss: of a step, the same for the same step, and figures for the log.
        loop: how.
        out: the folder for the checkpoint.
        saved: called after each checkpoint, and where nothing is left to do, with the number of steps done, to write
            the model and to measure it.
        about: what decides the weights; a run is not gone on with another.

    Raises:
        UserError: where ``out`` holds a run of something else.
    """
    torch.manual_seed(0)  # of what the modules draw while they train, if anything
    steppers = optimizers(list(modules.values()), loop.learning_rate)
    parts: dict[str, Any] = modules | {f"optimizer {index}": each for index, each in enumerate(steppers)}
    weights = [weight for module in modules.values() for weight in module.parameters()]
    sums: dict[str, list[float]] = {}
    first, last = _restore(parts, out, about), loop.eyes + loop.steps
    for step in range(first, last):
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = loop.learning_rate * share(step, loop)
        for name, figure in _step(modules, steppers, weights, partial(loss, step)).items():
            sums.setdefault(name, []).append(figure)
        if (step + 1) % 50 == 0:
            log.info("step %d %s", step + 1, " ".join(f"{k} {sum(v) / len(v):.3f}" for k, v in sums.items()))
            sums.clear()
        if (step + 1) % loop.every == 0 or step + 1 == last:
            _store(parts, out, step + 1, about)
            saved(step + 1)
    if first >= last:
        saved(first)


def _step(
    modules: dict[str, nn.Module],
    steppers: Sequence[torch.optim.Optimizer],
    weights: Sequence[Tensor],
    loss: Callable[[], tuple[Tensor, dict[str, float]]],
) -> dict[str, float]:
    for module in modules.values():
        module.train()
    value, figures = loss()
    for stepper in steppers:
        stepper.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(weights, CLIP)
    for stepper in steppers:
        stepper.step()
    return figures


def _store(parts: dict[str, Any], out: Path, step: int, about: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / CHECKPOINT) as temporary:
        torch.save(
            {"step": step, "about": about, **{name: part.state_dict() for name, part in parts.items()}}, temporary
        )


def _restore(parts: dict[str, Any], out: Path, about: str) -> int:
    """Bring back the last checkpoint's weights and optimizers; returns the steps that are done.

    Raises:
        UserError: for a checkpoint of something else.
    """
    if not (out / CHECKPOINT).exists():
        return 0
    stored = torch.load(out / CHECKPOINT, weights_only=True)
    if stored["about"] != about:
        raise UserError(f"{out} was begun with another recipe ({stored['about']}): give another out")
    for name, part in parts.items():
        part.load_state_dict(stored[name])
    return int(stored["step"])
