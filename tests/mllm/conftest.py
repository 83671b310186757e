"""The small random models, each built and loaded once per session."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import transformers

from sam4mllm.geometry.prompts import Image
from sam4mllm.mllm.hf.model import HfMLLM
from tests.families import build

transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's model."""
    return cache(lambda name: build(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def talker(folder_of: Callable[[str], Path]) -> Callable[[str], HfMLLM]:
    """A family's loaded model; replies have at most 8 tokens."""
    return cache(lambda name: HfMLLM.load(folder_of(name), device="cpu", max_new_tokens=8))


@pytest.fixture(scope="session")
def images() -> list[Image]:
    """Two images of different sizes and shapes."""
    rng = np.random.default_rng(7)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((60, 90, 3), (100, 70, 3))]
