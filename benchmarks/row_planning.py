"""Time to plan the training rows of a dataset of RefCOCO's size: filtering, tokenizing, epochs and single rows.

    python benchmarks/row_planning.py [--sentences 142000] [--talks 0]

Uses generated sentences, seven per image, and reads no images. The tokenizer of `tiny` encodes unknown words in bytes,
which gives several times the tokens of a common tokenizer.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from refer_scale import WORDS

from sam4mllm.data.conversations import Conversation, ConversationSet
from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.geometry.rle import Rle
from sam4mllm.language.messages import Turn
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.runtime.specs import EMBEDDED
from sam4mllm.training.dataset.corpus import LoadedSource, corpus
from sam4mllm.training.dataset.mixture import Rows
from sam4mllm.training.dataset.rows import TrainingRows

HEIGHT, WIDTH = 480, 640


@contextmanager
def timed(what: str) -> Iterator[None]:
    wall, processor = perf_counter(), process_time()
    yield
    print(f"| {what} | {process_time() - processor:.2f} | {perf_counter() - wall:.2f} |", flush=True)


def random_words(count: int, rng: np.random.Generator) -> str:
    return " ".join(WORDS[index] for index in rng.integers(len(WORDS), size=count))


def samples(count: int, rng: np.random.Generator) -> SampleSet:
    rows, columns = np.indices((HEIGHT, WIDTH))
    masks = [
        Rle.from_mask(np.hypot(columns - x, rows - y) < radius)
        for x, y, radius in rng.uniform([100, 100, 20], [540, 380, 90], size=(200, 3))
    ]
    return SampleSet(
        tuple(
            Sample(
                f"s{n}", f"{n // 7}.jpg", WIDTH, HEIGHT, random_words(int(rng.integers(1, 8)), rng), (masks[n % 200],)
            )
            for n in range(count)
        ),
        Path("nowhere"),
    )


def talks(count: int, rng: np.random.Generator) -> ConversationSet:
    return ConversationSet(
        tuple(
            Conversation(
                f"t{n}",
                f"{n // 2}.jpg",
                WIDTH,
                HEIGHT,
                (Turn("user", random_words(12, rng)), Turn("assistant", random_words(60, rng))) * 2,
            )
            for n in range(count)
        ),
        Path("nowhere"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=142_000)
    parser.add_argument("--talks", type=int, default=0)
    options = parser.parse_args()
    rng, rows = np.random.default_rng(0), Rows()
    parts = [LoadedSource("samples", samples(options.sentences, rng))]
    if options.talks:
        parts.append(LoadedSource("talks", talks(options.talks, rng), weight=0.2))
    mllm = HfMLLM.load(EMBEDDED / "mllm", device="cpu")
    print("| | CPU seconds | wall-clock seconds |\n|---|---:|---:|")
    with timed("filtering"):
        usable = corpus(parts, rows)
    with timed("tokens"):
        conversations = TrainingRows(usable, rows, mllm, mllm.lengths)
    for epoch in range(2):
        with timed(f"epoch {epoch}"):
            conversations.epoch(epoch)
    with timed("plans of all rows of an epoch"):
        plans = [conversations.plan(index) for index in range(len(conversations))]
    with timed("turns of 200 rows"):
        turns = [conversations.turns(index) for index in range(200)]
    shares = np.array([mllm.lengths.conversation(turn_list)[0] for turn_list in turns]) / [
        plan.tokens for plan in plans[:200]
    ]
    mean_items = sum(len(plan.items) for plan in plans) / len(plans)
    print(f"\n{len(plans):,} rows, {mean_items:.2f} expressions or talks per row")
    print(f"200 rows take this share of their planned tokens: {shares.min():.3f} to {shares.max():.3f}")


if __name__ == "__main__":
    main()
