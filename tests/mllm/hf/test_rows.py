"""Rows for training are what asking produces: the same tokens, supervised on the replies, blind to what comes later."""

import numpy as np
import pytest
import torch

from sam4mllm.errors import UserError
from sam4mllm.language.messages import Turn
from sam4mllm.mllm.hf import chat as module
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.runtime.specs import EMBEDDED
from tests.families import FAMILIES

ASKED = ["Where is the cat on the left?", "Is the point on it?", "And this one, on the right hand side?"]
SAID = ["[281,240,863,999]", "Yes", "No"]
ROLES = ("user", "assistant") * len(ASKED)
TURNS = [
    Turn(role, text)
    for role, text in zip(ROLES, [t for pair in zip(ASKED, SAID, strict=True) for t in pair], strict=True)
]

# a processor of transformers calls np.array on a tensor, and torch's tensors do not know numpy's new keyword
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(params=sorted(FAMILIES))
def mllm(request, talker):
    return talker(request.param)


def ids_of(row) -> list[int]:
    return row["input_ids"][0].tolist()


def test_a_row_is_what_a_chat_is_fed(mllm, pictures, monkeypatch):
    """The chat is made to say the row's replies; its prompt and all that it was fed after it are the row."""
    template, said = mllm._speaker.template, iter(SAID)
    monkeypatch.setattr(module, "greedy", lambda *_: [(template.reply(next(said)), True)])
    chat = mllm.open(pictures[:1])
    for text in ASKED:
        chat.answer([text])
    opened = template.open(ASKED[:1], [mllm._sight.prepare(pictures[0])])["input_ids"][0].tolist()
    fed = opened + chat._rows[0].tail
    row = ids_of(mllm.rows([(pictures[0], TURNS)]))
    assert row[: len(fed)] == fed
    assert row[len(fed)] in template.end_ids


def test_the_supervised_tokens_are_the_replies_and_their_ends(mllm, pictures):
    row, template = mllm.rows([(pictures[0], TURNS)]), mllm._speaker.template
    labels = row["labels"][0]
    kept = labels != -100
    assert torch.equal(labels[kept], row["input_ids"][0][kept])
    starts = [i for i in range(len(kept)) if kept[i] and not kept[i - 1]]
    pieces = []
    for start in starts:
        end = next((i for i in range(start, len(kept)) if not kept[i]), len(kept))
        assert ids_of(row)[end - 1] in template.end_ids
        pieces.append(template.text(ids_of(row)[start : end - 1]))
    assert pieces == SAID


def test_no_later_token_changes_an_earlier_logit(mllm, pictures):
    row = mllm.rows([(pictures[0], TURNS)])
    labels = row.pop("labels")[0]
    last = int(torch.nonzero(labels != -100)[-2])
    mllm.model.train()  # where some models mask otherwise
    with torch.no_grad():
        before = mllm.model(**row).logits[0, :last]
        row["input_ids"][0, last] = (row["input_ids"][0, last] + 1) % 60 + 40
        after = mllm.model(**row).logits[0]
    mllm.model.eval()
    assert torch.allclose(before, after[:last], atol=1e-5)
    assert not torch.allclose(after[last - 1], after[last], atol=1e-3)


def test_a_row_in_a_batch_scores_as_it_does_alone(mllm, pictures):
    pairs = [(pictures[0], TURNS), (pictures[1], TURNS[:2])]
    together = mllm.rows(pairs)
    labels = together["labels"].clone()
    with torch.no_grad():
        batch = mllm.model(**{name: value for name, value in together.items() if name != "labels"}).logits
        for index, pair in enumerate(pairs):
            alone = mllm.rows([pair])
            n = alone["input_ids"].shape[1]
            assert torch.equal(labels[index, :n], alone.pop("labels")[0])
            assert bool((labels[index, n:] == -100).all())
            assert torch.allclose(batch[index, :n], mllm.model(**alone).logits[0], atol=1e-4)


SIZES = [(60, 40), (40, 60), (300, 60), (200, 200), (900, 880), (61, 40), (1200, 800)]


def test_the_tokens_of_pictures_are_told_by_their_sizes(mllm, monkeypatch):
    lengths = mllm.lengths
    blanks, picture = [], type(lengths).picture
    monkeypatch.setattr(type(lengths), "picture", lambda *words: (blanks.append(words[1:]), picture(*words))[1])
    told = lengths.pictures(SIZES * 300)
    assert len(blanks) <= 5, "no picture of each size is encoded: a few tell of all"
    assert told == [picture(lengths, *size) for size in SIZES] * 300
    assert lengths.pictures([]) == []


def test_what_a_processor_cannot_tell_is_counted_on_blanks():
    """The embedded base is a LLaVA whose image processor crops nothing; LLaVA's own asks for a size to crop to."""
    lengths = HfMLLM.load(EMBEDDED / "mllm", device="cpu").lengths
    assert lengths.pictures(SIZES) == [lengths.picture(*size) for size in SIZES]


def test_a_size_that_a_model_cannot_take_is_refused_when_tokens_are_told(talker):
    with pytest.raises(UserError, match="the model cannot take a picture of 3000 x 2"):
        talker("qwen2_5_vl").lengths.pictures([(60, 40), (3000, 2)])


@pytest.mark.parametrize(
    "turns",
    [
        pytest.param([], id="no turn"),
        pytest.param(TURNS[:1], id="no reply"),
        pytest.param(TURNS[1:3], id="assistant first"),
        pytest.param([TURNS[0], TURNS[0]], id="two users"),
    ],
)
def test_a_conversation_out_of_order_is_refused(turns, talker, pictures):
    with pytest.raises(UserError, match="user, assistant"):
        talker("qwen2_vl").rows([(np.array(pictures[0]), turns)])
