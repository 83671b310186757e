"""Every family's real class, small and random: what is cached, packed and batched is what one full forward says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from sam4mllm.geometry.prompts import Box, Image
from sam4mllm.language.messages import Reply
from sam4mllm.mllm.hf.chat import HfChat
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.hf.prefix import feed
from sam4mllm.prompters import Query
from sam4mllm.prompters.ppg import PPG
from sam4mllm.prompters.pqpp import PQPP
from tests.families import FAMILIES

FIRST = ["Where is the cat?", "Where is the right hand of the left cat? Answer with one box."]
SECOND = ["Again.", "Is it on the left side? Say yes or no."]
QUESTIONS = [
    ["Is the point (093,070) on it?", "Is (1,2) on the cat?", "Is it on the left side, or on the right?"],
    ["Is the point (500,700) on it?", "No?"],
]
OPTIONS = [("Yes", "No"), ("Yes, it is", "Yes, it is not", "No", "Yes, it")]
Talker = Callable[[str], HfMLLM]

pytestmark = [
    pytest.mark.parametrize("family", FAMILIES),
    # a processor of transformers calls np.array on a tensor, and torch's tensors do not know numpy's new keyword
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


def talk(mllm: HfMLLM, pictures: Sequence[Image], first: Sequence[str] = FIRST) -> tuple[HfChat, list[Reply]]:
    """Two turns about each picture."""
    chat = mllm.open(pictures)
    replies = chat.answer(first)
    return chat, replies + chat.answer(SECOND[: len(pictures)])


@torch.inference_mode()
def full_forward(mllm: HfMLLM, picture: Image, text: str, later: Sequence[int]) -> torch.Tensor:
    """Log-probabilities after each token of an opened prompt and the ids after it: one pass, no cache, no batch."""
    speaker = mllm._speaker
    inputs = dict(speaker.template.open([text], [mllm._sight.prepare(picture)]))
    inputs.pop("labels", None)
    # what comes after a prompt is text; in a prefix LM it is the causal part
    kinds = {"input_ids": None, "attention_mask": 1, "mm_token_type_ids": 0, "token_type_ids": int(speaker.prefix_lm)}
    for name, kind in kinds.items():
        if name in inputs:
            new = torch.tensor([list(later)] if kind is None else [[kind] * len(later)], dtype=torch.long)
            inputs[name] = torch.cat([inputs[name], new], dim=1)
    return mllm.model(**inputs, use_cache=False).logits[0].log_softmax(dim=-1)


def expected_choice(
    mllm: HfMLLM, picture: Image, text: str, later: Sequence[int], options: Sequence[str]
) -> np.ndarray:
    """The options' log-probabilities, up to where each is told from the others, by one full forward each."""
    rendered = [[*mllm._speaker.template.reply(option), mllm._speaker.template.end_id] for option in options]
    logs = []
    for option in rendered:
        others = [other for other in rendered if other is not option]
        size = next(n for n in range(1, len(option) + 1) if all(option[:n] != other[:n] for other in others))
        found = full_forward(mllm, picture, text, [*later, *option[:size]])[-size - 1 : -1]
        logs.append(float(found[range(size), option[:size]].sum()))
    return np.array(logs) - np.logaddexp.reduce(logs)


def test_the_logits_are_far_from_flat(family: str, talker: Talker, pictures: list[Image]) -> None:
    mllm = talker(family)
    logs = full_forward(mllm, pictures[0], FIRST[0], [])[-1]
    other = full_forward(mllm, pictures[1], FIRST[0], [])[-1]
    assert logs.std() > 0.5
    assert (logs - other).abs().max() > 0.1, "the picture must matter"


def test_a_cached_second_turn_is_the_full_forward(family: str, talker: Talker, pictures: list[Image]) -> None:
    mllm = talker(family)
    chat, replies = talk(mllm, pictures)
    assert len({len(row.tail) for row in chat._rows}) == 2, "replies and questions must differ in length"
    for row, picture, text in zip(chat._rows, pictures, FIRST, strict=True):
        expected = full_forward(mllm, picture, text, row.tail)
        with torch.inference_mode():
            logits = feed(
                mllm.model, row.prefix.rows([row.at]), torch.tensor([row.tail]), keep=torch.arange(len(row.tail))
            )
        torch.testing.assert_close(
            logits[0].log_softmax(dim=-1), expected[-len(row.tail) :], atol=1e-4, rtol=0, check_dtype=False
        )
    for index, reply in enumerate(replies[2:]):  # what was said is what the full forward finds most likely
        row = chat._rows[index]
        said = row.tail[len(asked(chat, index)) :]
        best = full_forward(mllm, pictures[index], FIRST[index], row.tail)[:-1].argmax(dim=-1)
        assert reply.text == mllm._speaker.template.text(said)
        assert best[len(best) - len(said) :].tolist() == said


def asked(chat: HfChat, index: int) -> list[int]:
    """The ids after a row's prefix up to where its second reply begins."""
    row, question = chat._rows[index], chat._speaker.template.between(chat._rows[index].texts)
    starts = [n for n in range(len(row.tail)) if row.tail[n : n + len(question)] == question]
    return row.tail[: starts[0] + len(question)]


@pytest.mark.parametrize("options", OPTIONS, ids=["one token", "several tokens"])
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "repeated"])
def test_choosing_is_the_full_forward(
    family: str, options: Sequence[str], pack: bool, talker: Talker, pictures: list[Image]
) -> None:
    loaded = talker(family)
    mllm = HfMLLM(loaded.model, loaded.processor, loaded.dialect, max_new_tokens=8, kv_tokens=300, pack=pack)
    chat, _ = talk(mllm, pictures)
    for index, chances in enumerate(chat.choose(QUESTIONS, options)):
        row = chat._rows[index]
        for question, found in zip(QUESTIONS[index], chances, strict=True):
            later = [*row.tail, *chat._next(row, question)]
            expected = expected_choice(mllm, pictures[index], FIRST[index], later, options)
            np.testing.assert_allclose(np.log(found), expected, atol=1e-4)


def test_choosing_before_any_answer_is_the_full_forward(family: str, talker: Talker, pictures: list[Image]) -> None:
    mllm = talker(family)
    chat = mllm.open(pictures)
    for options in OPTIONS:
        for picture, questions, chances in zip(pictures, QUESTIONS, chat.choose(QUESTIONS, options), strict=True):
            for question, found in zip(questions, chances, strict=True):
                expected = expected_choice(mllm, picture, question, [], options)
                np.testing.assert_allclose(np.log(found), expected, atol=1e-4)
    assert chat.answer(FIRST) == mllm.open(pictures).answer(FIRST), "and it leaves nothing behind"


def test_batched_is_single(family: str, talker: Talker, pictures: list[Image]) -> None:
    mllm = talker(family)
    chat, replies = talk(mllm, pictures)
    chances = chat.choose(QUESTIONS, OPTIONS[0])
    for index, picture in enumerate(pictures):
        alone = mllm.open([picture])
        assert alone.answer([FIRST[index]]) == [replies[index]]
        assert alone.answer([SECOND[index]]) == [replies[index + 2]]
        np.testing.assert_allclose(
            np.log(alone.choose([QUESTIONS[index]], OPTIONS[0])[0]), np.log(chances[index]), atol=1e-4
        )


def test_another_conversation_in_between_changes_nothing(family: str, talker: Talker, pictures: list[Image]) -> None:
    mllm = talker(family)
    undisturbed, replies = talk(mllm, pictures)
    chat = mllm.open(pictures)
    assert chat.answer(FIRST) == replies[:2]
    mllm.open([pictures[1][:, ::2]]).answer(["Where?"])  # some models keep the last picture's positions
    assert chat.answer(SECOND) == replies[2:]
    for one, two in zip(chat.choose(QUESTIONS, OPTIONS[0]), undisturbed.choose(QUESTIONS, OPTIONS[0]), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_order_of_questions_changes_nothing(family: str, talker: Talker, pictures: list[Image]) -> None:
    chat, _ = talk(talker(family), pictures)
    forwards = chat.choose(QUESTIONS, OPTIONS[0])
    backwards = chat.choose([asked[::-1] for asked in QUESTIONS], OPTIONS[0])
    for one, two in zip(forwards, backwards, strict=True):
        np.testing.assert_allclose(np.log(one), np.log(two[::-1]), atol=1e-5)


@pytest.mark.parametrize("begin", ["answer", "choose"])
def test_a_picture_is_encoded_once(family: str, begin: str, talker: Talker, pictures: list[Image]) -> None:
    mllm = talker(family)
    if begin == "choose" and mllm._speaker.prefix_lm:
        pytest.skip("no two prompts of a prefix LM begin alike")
    calls: list[int] = []
    hook = mllm.model.get_encoder("image").register_forward_hook(lambda *_: calls.append(1))
    chat = mllm.open(pictures)
    if begin == "choose":
        chat.choose(QUESTIONS, OPTIONS[0])
    chat.answer(FIRST)
    chat.answer(SECOND)
    chat.choose(QUESTIONS, OPTIONS[1])
    hook.remove()
    assert len(calls) == 1, "both pictures in one call"


def test_a_picture_that_is_not_asked_waits(family: str, talker: Talker, pictures: list[Image]) -> None:
    mllm = talker(family)
    _, replies = talk(mllm, pictures)
    chat = mllm.open(pictures)
    assert chat.answer(["", FIRST[1]]) == [Reply(""), replies[1]]
    assert chat.answer([FIRST[0], SECOND[1]]) == [replies[0], replies[3]]
    assert chat.answer([SECOND[0], ""]) == [replies[2], Reply("")]


class Boxed:
    """A model that answers every question with a box, and is itself in all else."""

    def __init__(self, mllm: HfMLLM) -> None:
        self.mllm, self.dialect = mllm, mllm.dialect

    def open(self, images: Sequence[Image], keys: Sequence[str] = ()) -> BoxedChat:
        return BoxedChat(self.mllm.open(images, keys), self.dialect)


class BoxedChat:
    def __init__(self, chat: HfChat, dialect: object) -> None:
        self.chat, self.dialect, self.frames, self.choose = chat, dialect, chat.frames, chat.choose

    def answer(self, texts: Sequence[str]) -> list[Reply]:
        self.chat.answer(texts)
        return [Reply(self.dialect.write_box(Box(10, 20, 50, 60), frame)) for frame in self.frames]


def test_prompters_run(family: str, talker: Talker, pictures: list[Image]) -> None:
    mllm = talker(family)
    queries = [Query(picture, "the left cat") for picture in pictures]
    assert [len(prompting.replies) for prompting in PPG(mllm)(queries)] == [1, 1]
    assert [len(prompting.replies) for prompting in PQPP(mllm)(queries)] == [1, 1]
    for prompting in PQPP(Boxed(mllm), points=9)(queries):
        assert len(prompting.prompts) == 1
        assert len(prompting.asked) == 9
        assert len({asked.yes for asked in prompting.asked}) == 9, "each point has its own answer"
        np.testing.assert_allclose(prompting.prompts[0].box.xyxy, (10, 20, 50, 60), atol=4)
