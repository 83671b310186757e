"""Planned token counts against those of the rows, with small random models of the real classes and a word tokenizer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam4mllm.data.conversations import Conversation, ConversationSet
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Point, Prompt
from sam4mllm.images.files import write_png
from sam4mllm.language.messages import Turn
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.targets.record import Target
from sam4mllm.training.dataset.corpus import LoadedSource, corpus
from sam4mllm.training.dataset.mixture import Mixture, PointSampling, Rows
from sam4mllm.training.dataset.rows import TrainingRows
from tests.families import build
from tests.teaching import BOX, HEIGHT, KEPT, MUTE, PQPP, WIDTH, Words, disc, sample

ALL = Mixture(ppg=1, pqpp=1, listed=1, box=1)
PHRASES = ["the cat on the left", "a point", 'the hand "Yes"', "right side", "Grüße, 猫", "the model's answer " * 4]
MASKS = [(disc(10),), (disc(60), disc(10)), (), (disc(0), disc(30), disc(60), disc(20))]
FAMILIES = ["gemma3", "llava_next", "paligemma", "qwen2_5_vl"]

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module", params=FAMILIES)
def mllm(request, tmp_path_factory) -> HfMLLM:
    return HfMLLM.load(build(request.param, tmp_path_factory.mktemp(request.param)), device="cpu")


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> list[LoadedSource]:
    folder = tmp_path_factory.mktemp("pictures")
    write_png(folder / "0.png", np.full((HEIGHT, WIDTH, 3), 80, dtype=np.uint8))
    samples = [sample(f"s{n}", masks=MASKS[n % 4], phrase=PHRASES[n % 6]) for n in range(24)]
    talks = [
        Conversation(
            f"t{n}", "0.png", WIDTH, HEIGHT, tuple(Turn(role, PHRASES[n]) for role in ("user", "assistant") * (n + 1))
        )
        for n in range(6)
    ]
    return [
        LoadedSource("samples", SampleSet(tuple(samples), folder)),
        LoadedSource("talks", ConversationSet(tuple(talks), folder)),
    ]


def made(parts, mllm, **changes) -> TrainingRows:
    rows = Rows(**{"mixture": ALL, "tokens": 6000, **changes})
    return TrainingRows(corpus(parts, rows), rows, mllm, mllm.lengths)


def test_counted_tokens_are_those_of_a_row_after_its_image(parts, mllm):
    conversations = made(parts, mllm, tokens=1500)
    prefixes = set()
    for index in range(6):
        image, turns = conversations.row(index)
        batch = mllm.rows([(image, turns)])
        tokens, supervised = mllm.lengths.conversation(turns)
        prefixes.add(batch["input_ids"].shape[1] - tokens)
        assert supervised == int((batch["labels"] != -100).sum())
    assert len(prefixes) == 1
    assert mllm.lengths.texts(PHRASES * 400) == mllm.lengths.texts(PHRASES) * 400


def test_planned_tokens_are_a_close_upper_bound(parts, mllm):
    conversations = made(parts, mllm, tokens=4000)
    for index in range(2 * len(conversations)):
        plan, (tokens, _) = conversations.plan(index), mllm.lengths.conversation(conversations.turns(index))
        assert 0.75 * plan.tokens <= tokens <= plan.tokens <= 4000
    assert not conversations.over


def test_rows_fit_the_budget_and_items_that_never_fit_are_left_out(parts, mllm):
    conversations = made(parts, mllm, tokens=400)
    barred = {(item.kind, item.reason) for item in conversations.corpus.left_out}
    assert barred <= {(kind, "longer than 400 tokens") for kind in ("ppg", "pqpp", "listed", "box", "talk")}
    assert ("pqpp", "longer than 400 tokens") in barred
    sizes = [mllm.lengths.conversation(conversations.turns(index))[0] for index in range(len(conversations))]
    assert max(sizes) <= 400
    for left_out in conversations.corpus.left_out:
        for row in [row for part in parts for row in part.rows if row.id in left_out.ids][:3]:
            assert tokens_alone(row, left_out.kind, mllm) > 0.9 * 400  # with one point, at its longest it is over


def tokens_alone(row, kind: str, mllm) -> int:
    """The tokens of a row with a single item and one point per object."""
    if isinstance(row, Conversation):
        return mllm.lengths.conversation(row.turns)[0]
    rows = Rows(
        replace(Mixture(0, 0, 0, 1), **{"box": 0.0, kind: 1.0}), asked=PointSampling(mean=1, deviation=0), tokens=10**6
    )
    only = TrainingRows(
        corpus([LoadedSource("one", SampleSet((row,), Path("nowhere")))], rows), rows, mllm, mllm.lengths
    )
    return mllm.lengths.conversation(only.turns(0))[0]


def test_the_number_of_points_is_reduced_to_fit_the_budget():
    samples = SampleSet((sample("a"), sample("b", masks=(disc(60), disc(10)))), Path("nowhere"))
    rows = Rows(PQPP, tokens=100, per_image=1)
    conversations = TrainingRows(corpus([LoadedSource("set", samples)], rows), rows, MUTE, Words())
    plans = [conversations.plan(index) for index in range(200)]
    for name, most in (("a", 5), ("b", 1)):
        points = {plan.points[0] for plan in plans if plan.items[0].id == name}
        assert max(points) <= most + 2
        assert min(points) == 1
    assert max(Words().conversation(conversations.turns(index))[0] for index in range(200)) <= 100


def test_a_budget_that_nothing_fits_is_refused():
    rows = Rows(BOX, tokens=10)
    with pytest.raises(UserError, match=r"no sample can be used for box: 1 \(longer than 10 tokens: a\)"):
        TrainingRows(
            corpus([LoadedSource("set", SampleSet((sample("a"),), Path("nowhere")))], rows), rows, MUTE, Words()
        )


def test_ppg_costs_use_the_number_of_points_in_the_targets():
    kept = tuple(Prompt(KEPT.box, (Point(2, 3),) * many) for many in (1, 2))
    targets_of_a = {("a", 0): Target("a", 0, kept, (0.9, 0.8), 0.9)}
    rows = Rows(Mixture(ppg=1, pqpp=0, listed=0, box=0), positive=9, negative=9)
    planned = []
    for targets in (targets_of_a, None):
        part = LoadedSource("set", SampleSet((sample("a"),), Path("nowhere")), targets)
        conversations = TrainingRows(corpus([part], rows), rows, MUTE, Words())
        planned.append(conversations.plan(0).tokens)
        assert Words().conversation(conversations.turns(0))[0] <= planned[-1]
    assert planned[1] - planned[0] == 16 * 2  # points of two words each
