"""Training rows hold the tokens that a chat produces, supervised on the replies, with causal attention."""

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

# a transformers processor calls np.array on a tensor, which does not support numpy's new keyword
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(params=sorted(FAMILIES))
def mllm(request, talker):
    return talker(request.param)


def ids_of(row) -> list[int]:
    return row["input_ids"][0].tolist()


def test_a_training_row_equals_the_tokens_fed_in_a_chat(mllm, images, monkeypatch):
    """The chat is forced to generate the row's replies; its prompt and the tokens fed later form the row."""
    template, replies = mllm._speaker.template, iter(SAID)
    monkeypatch.setattr(module, "greedy", lambda *_: [(template.reply(next(replies)), True)])
    chat = mllm.open(images[:1])
    for text in ASKED:
        chat.answer([text])
    opened = template.open(ASKED[:1], [mllm._sight.prepare(images[0])])["input_ids"][0].tolist()
    fed = opened + chat._rows[0].tail
    row = ids_of(mllm.rows([(images[0], TURNS)]))
    assert row[: len(fed)] == fed
    assert row[len(fed)] in template.end_ids


def test_supervised_tokens_are_the_replies_and_their_end_tokens(mllm, images):
    row, template = mllm.rows([(images[0], TURNS)]), mllm._speaker.template
    labels = row["labels"][0]
    supervised = labels != -100
    assert torch.equal(labels[supervised], row["input_ids"][0][supervised])
    starts = [i for i in range(len(supervised)) if supervised[i] and not supervised[i - 1]]
    pieces = []
    for start in starts:
        end = next((i for i in range(start, len(supervised)) if not supervised[i]), len(supervised))
        assert ids_of(row)[end - 1] in template.end_ids
        pieces.append(template.text(ids_of(row)[start : end - 1]))
    assert pieces == SAID


def test_no_later_token_changes_an_earlier_logit(mllm, images):
    row = mllm.rows([(images[0], TURNS)])
    labels = row.pop("labels")[0]
    last = int(torch.nonzero(labels != -100)[-2])
    mllm.model.train()  # some models mask differently in training
    with torch.no_grad():
        before = mllm.model(**row).logits[0, :last]
        row["input_ids"][0, last] = (row["input_ids"][0, last] + 1) % 60 + 40
        after = mllm.model(**row).logits[0]
    mllm.model.eval()
    assert torch.allclose(before, after[:last], atol=1e-5)
    assert not torch.allclose(after[last - 1], after[last], atol=1e-3)


def test_batched_logits_equal_those_of_a_single_row(mllm, images):
    pairs = [(images[0], TURNS), (images[1], TURNS[:2])]
    batch_rows = mllm.rows(pairs)
    labels = batch_rows["labels"].clone()
    with torch.no_grad():
        batch = mllm.model(**{name: value for name, value in batch_rows.items() if name != "labels"}).logits
        for index, pair in enumerate(pairs):
            single = mllm.rows([pair])
            n = single["input_ids"].shape[1]
            assert torch.equal(labels[index, :n], single.pop("labels")[0])
            assert bool((labels[index, n:] == -100).all())
            assert torch.allclose(batch[index, :n], mllm.model(**single).logits[0], atol=1e-4)


SIZES = [(60, 40), (40, 60), (300, 60), (200, 200), (900, 880), (61, 40), (1200, 800)]


def test_image_tokens_are_computed_from_sizes(mllm, monkeypatch):
    lengths = mllm.lengths
    blanks, image = [], type(lengths).count_image_tokens
    monkeypatch.setattr(
        type(lengths), "count_image_tokens", lambda *words: (blanks.append(words[1:]), image(*words))[1]
    )
    counts = lengths.image_tokens(SIZES * 300)
    assert len(blanks) <= 5, "a few blank images suffice for all sizes"
    assert counts == [image(lengths, *size) for size in SIZES] * 300
    assert lengths.image_tokens([]) == []


def test_image_tokens_are_counted_on_blank_images_if_the_processor_cannot_compute_them():
    """The embedded base is a LLaVA whose image processor does not crop; LLaVA's own function needs a crop size."""
    lengths = HfMLLM.load(EMBEDDED / "mllm", device="cpu").lengths
    assert lengths.image_tokens(SIZES) == [lengths.count_image_tokens(*size) for size in SIZES]


def test_a_size_that_the_model_cannot_process_is_refused(talker):
    with pytest.raises(UserError, match="the model cannot process an image of 3000 x 2"):
        talker("qwen2_5_vl").lengths.image_tokens([(60, 40), (3000, 2)])


@pytest.mark.parametrize(
    "turns",
    [
        pytest.param([], id="no turn"),
        pytest.param(TURNS[:1], id="no reply"),
        pytest.param(TURNS[1:3], id="assistant first"),
        pytest.param([TURNS[0], TURNS[0]], id="two users"),
    ],
)
def test_a_conversation_out_of_order_is_refused(turns, talker, images):
    with pytest.raises(UserError, match="must alternate"):
        talker("qwen2_vl").rows([(np.array(images[0]), turns)])
