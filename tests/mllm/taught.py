"""Training examples for every family's small model and its output afterwards; as a program, adapters in a new process.

python -m tests.mllm.taught FOLDER    # FOLDER/<family>/base and FOLDER/<family>/adapter to FOLDER/<family>/again.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.language.templates import YES_NO, ask_point, ask_prompts
from sam4mllm.mllm import ImageTurns
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.training.dataset.examples import ppg_turns, pqpp_turns

PHRASE = "the left cat"
PROMPT = Prompt(Box(10, 20, 50, 60), (Point(20, 30), Point(45, 55), Point(12, 58, False)))
IMAGE = np.random.default_rng(7).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def load(folder: Path, adapter: Path | None = None) -> HfMLLM:
    return HfMLLM.load(folder, adapter=adapter, device="cpu", max_new_tokens=8)


def lesson(mllm: HfMLLM, index: int) -> ImageTurns:
    """A PQPP conversation for an odd index, else a PPG one."""
    [frame] = mllm.open([IMAGE]).frames
    if index % 2:
        return IMAGE, pqpp_turns(PHRASE, [PROMPT], mllm.dialect, frame, np.random.default_rng(index))
    return IMAGE, ppg_turns(PHRASE, [PROMPT], 2, 1, mllm.dialect, frame)


@torch.no_grad()
def heard(mllm: HfMLLM) -> dict[str, np.ndarray]:
    """The logits of one training row per task, a reply to the PPG question, and probabilities for the PQPP points."""
    mllm.model.eval()
    rows = [mllm.rows([lesson(mllm, index)]) for index in (0, 1)]
    for row in rows:
        del row["labels"]
    chat = mllm.open([IMAGE])
    reply = chat.answer([ask_prompts(PHRASE, 2, 1, mllm.dialect)])[0].text
    point_answers = [ask_point(point, PHRASE, mllm.dialect, chat.frames[0]) for point in PROMPT.points]
    return {
        "ppg": mllm.model(**rows[0]).logits.numpy(),
        "pqpp": mllm.model(**rows[1]).logits.numpy(),
        "reply": np.array(reply),
        "chances": chat.choose([point_answers], YES_NO)[0],
    }


if __name__ == "__main__":
    for place in sorted(Path(sys.argv[1]).iterdir()):
        np.savez(place / "again.npz", **heard(load(place / "base", place / "adapter")))
