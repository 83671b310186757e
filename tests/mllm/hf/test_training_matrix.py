"""Every family's real class trains PPG and PQPP with TRL's cross-entropy, and reloads in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from sam4mllm.training.config.training import Lora, Training
from sam4mllm.training.trainer import finetune
from tests.families import FAMILIES, build
from tests.mllm.taught import heard, lesson, load

TRAINING = Training(
    max_steps=2, per_device_train_batch_size=2, learning_rate=1e-2, lora=Lora(r=4, lora_alpha=8), logging_steps=1
)

pytestmark = [
    # peft and trl use deprecated names of transformers properties
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # a transformers processor calls np.array on a tensor, which does not support numpy's new keyword
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def cross_entropy(mllm, conversations) -> float:
    """The mean over supervised tokens, from the model's logits."""
    row = mllm.rows(conversations)
    labels = row.pop("labels")[:, 1:]
    with torch.no_grad():
        logits = mllm.model(**row).logits[:, :-1]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten()))


class Taught:
    """A family's model after two training steps, in its own folder."""

    def __init__(self, family: str, place: Path) -> None:
        mllm = load(build(family, place / "base"))
        self.before, point_answers = heard(mllm), []

        def row(index):
            point_answers.append(lesson(mllm, index))
            return point_answers[-1]

        finetune(mllm, row, TRAINING, place / "adapter")
        self.after = heard(mllm)
        self.expected = cross_entropy(load(place / "base"), point_answers[:2])
        state = json.loads((place / "adapter" / "checkpoints" / "checkpoint-2" / "trainer_state.json").read_text())
        self.loss = state["log_history"][0]["loss"]


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("taught")


@pytest.fixture(scope="module")
def taught(places):
    return cache(lambda family: Taught(family, places / family))


@pytest.fixture(scope="module")
def again(places, taught):
    """The output of all adapters in one new process."""
    for family in FAMILIES:
        taught(family)
    subprocess.run([sys.executable, "-m", "tests.mllm.taught", str(places)], check=True, capture_output=True)
    return lambda family: np.load(places / family / "again.npz")


@pytest.mark.parametrize("family", FAMILIES)
def test_two_steps_change_the_logits_and_the_logged_loss_is_the_cross_entropy(family, taught):
    trained = taught(family)
    assert trained.loss == pytest.approx(trained.expected, abs=1e-3)
    for name in ("ppg", "pqpp"):
        assert np.abs(trained.after[name] - trained.before[name]).max() > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_process_gives_the_same_output_as_the_training_process(family, taught, again):
    expected, actual = taught(family).after, again(family)
    for name in ("ppg", "pqpp", "chances"):
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-5)
    assert actual["reply"] == expected["reply"]
