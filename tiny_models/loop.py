"""A training loop for the embedded models: Muon and AdamW, one schedule, and checkpoints to resume from."""

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
    """The settings of the loop.

    Attributes:
        eyes: steps of the first part, which trains the image encoder alone with a constant learning rate.
        steps: steps of the second part, with a cosine schedule down to 0.03 of the learning rate.
        learning_rate: the highest learning rate of both optimizers.
        every: steps between checkpoints.

    Raises:
        UserError: if a value is out of range.
    """

    eyes: int
    steps: int
    learning_rate: float = 2e-3
    every: int = 300

    def __post_init__(self) -> None:
        if min(self.eyes, self.steps) < 0 or self.every < 1 or not self.learning_rate > 0:
            raise UserError(
                f"loop: eyes and steps must be 0 or more, learning_rate above 0 and every 1 or more, got {self}"
            )


def about(recipe: Any) -> str:
    """The values of a recipe that determine the weights: all but the output folder and the checkpoint interval."""
    values = {name: value for name, value in asdict(recipe).items() if name != "out"}
    return str(values | {"loop": {name: value for name, value in values["loop"].items() if name != "every"}})


def share(step: int, loop: Loop) -> float:
    """The learning rate of a step as a share of the highest; each part starts with a short warmup."""
    if step < loop.eyes:
        return min(1.0, (step + 1) / WARMUP)
    step -= loop.eyes
    return min(1.0, (step + 1) / WARMUP) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * step / max(loop.steps, 1))))


def optimizers(modules: Sequence[nn.Module], learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the matrices of linear layers, AdamW for all others; tied weights occur once."""
    inner = {
        layer.weight
        for module in modules
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and "lm_head" not in name
    }
    every = dict.fromkeys(weight for module in modules for weight in module.parameters())
    matrices = [weight for weight in every if weight in inner]
    remaining = [weight for weight in every if weight not in inner]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(remaining, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def train(
    modules: dict[str, nn.Module],
    loss: Callable[[int], tuple[Tensor, dict[str, float]]],
    loop: Loop,
    out: Path,
    saved: Callable[[int], None],
    about: str = "",
) -> None:
    """Train, or resume a stopped run, with the same resulting weights.

    Args:
        modules: the modules by name; their weights are trained in place.
        loss: returns the loss of a step, which must depend on the step only, and figures for the log.
        loop: the settings.
        out: the folder for the checkpoint.
        saved: called with the number of finished steps after each checkpoint, and if there are no steps left; it
            writes and measures the model.
        about: the values that determine the weights; a run only resumes if they are equal.

    Raises:
        UserError: if ``out`` contains another run.
    """
    torch.manual_seed(0)  # for random draws of the modules during training
    steppers = optimizers(list(modules.values()), loop.learning_rate)
    parts: dict[str, Any] = modules | {f"optimizer {index}": stepper for index, stepper in enumerate(steppers)}
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
    """Load the last checkpoint's weights and optimizers, and return the number of finished steps.

    Raises:
        UserError: if the checkpoint belongs to another run.
    """
    if not (out / CHECKPOINT).exists():
        return 0
    stored = torch.load(out / CHECKPOINT, weights_only=True)
    if stored["about"] != about:
        raise UserError(f"{out} was started with another recipe ({stored['about']}): set another out")
    for name, part in parts.items():
        part.load_state_dict(stored[name])
    return int(stored["step"])
