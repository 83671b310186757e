from dataclasses import replace

import numpy as np
import pytest

from sam4mllm.data.conversations import Conversation, ConversationSet
from sam4mllm.data.samples import SampleSet
from sam4mllm.language.messages import Turn
from sam4mllm.training.dataset.corpus import LoadedSource, corpus
from sam4mllm.training.dataset.mixture import Mixture, Rows
from sam4mllm.training.dataset.rows import TrainingRows
from sam4mllm.training.plan import RowCount, row_plan
from tests.teaching import BOX, HEIGHT, MUTE, WIDTH, Words, sample

SAMPLES = [sample(f"s{n}", f"{n % 3}.png", phrase="the " * n + "cup") for n in range(12)]
LONG = Conversation("long", "0.png", WIDTH, HEIGHT, (Turn("user", "What?"), Turn("assistant", "word " * 300)))
SHORT = Conversation("short", "0.png", WIDTH, HEIGHT, (Turn("user", "What?"), Turn("assistant", "That.")))


@pytest.fixture
def conversations(tmp_path) -> TrainingRows:
    """Twelve samples and one of two talks, within 250 words; there are no image files."""
    rows = Rows(Mixture(ppg=1, pqpp=1, box=0), tokens=250)
    samples, talks = SampleSet(tuple(SAMPLES), tmp_path), ConversationSet((LONG, SHORT), tmp_path)
    parts = [LoadedSource("samples", samples), LoadedSource("talks", talks)]
    return TrainingRows(corpus(parts, rows), rows, MUTE, Words())


def test_the_rows_of_an_epoch_are_counted_by_source_and_kind(conversations):
    counts = row_plan(conversations, Words()).rows
    assert [(count.source, count.kind) for count in counts] == [
        ("samples", "ppg"),
        ("samples", "pqpp"),
        ("talks", "talk"),
    ]
    assert sum(count.rows for count in counts) == len(conversations)
    assert sum(count.items for count in counts[:2]) == 12
    assert counts[2] == RowCount("talks", "talk", 1, 1)


def test_tokens_are_those_of_the_turns_and_the_longest_rows_are_named(conversations):
    plan, words = row_plan(conversations, Words(), longest=3), Words()
    sizes = [words.conversation(conversations.turns(index)) for index in range(len(conversations))]
    assert plan.tokens == tuple(total for total, _ in sizes)
    assert max(plan.tokens) <= 250
    assert plan.supervised == np.sum(sizes, axis=0)[1]
    assert plan.image_tokens == (WIDTH // 10,) * len(conversations)
    assert [row.tokens for row in plan.longest] == sorted(plan.tokens, reverse=True)[:3]
    for row in plan.longest:
        assert (row.tokens, row.image_tokens) == (plan.tokens[row.index], WIDTH // 10)
        assert row.ids == tuple(item.id for item in conversations.plan(row.index).items)


def test_the_longest_row_may_have_a_short_text_and_a_large_image(tmp_path):
    large = replace(sample("large", "large.png", masks=()), width=9000, height=50)
    rows = Rows(BOX, tokens=250, per_image=1)
    mixed = TrainingRows(
        corpus([LoadedSource("set", SampleSet((*SAMPLES, large), tmp_path))], rows), rows, MUTE, Words()
    )
    plan = row_plan(mixed, Words(), longest=2)
    assert [row.ids for row in plan.longest] == [("large",), ("s11",)]
    assert [row.image_tokens for row in plan.longest] == [900, WIDTH // 10]
    assert sorted(plan.image_tokens) == [10] * 12 + [900]


def test_a_limited_number_of_rows_can_be_counted(conversations):
    all_rows, four_rows = row_plan(conversations, Words()), row_plan(conversations, Words(), counted=4)
    assert four_rows.tokens == all_rows.tokens[:4]
    assert (four_rows.rows, four_rows.longest) == (all_rows.rows, all_rows.longest)
    assert row_plan(conversations, Words(), counted=10**6) == all_rows
    assert row_plan(conversations, Words(), counted=0).supervised == 0


def test_left_out_items_are_reported(conversations):
    [left_out] = row_plan(conversations, Words()).left_out
    assert (left_out.source, left_out.kind, left_out.ids) == ("talks", "talk", ("long",))
    assert left_out.reason == "longer than 250 tokens"
