"""Every family's real class, small and random: cached, packed and batched results equal one full forward pass."""

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
    # a transformers processor calls np.array on a tensor, which does not support numpy's new keyword
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


def talk(mllm: HfMLLM, images: Sequence[Image], first: Sequence[str] = FIRST) -> tuple[HfChat, list[Reply]]:
    """Two turns about each image."""
    chat = mllm.open(images)
    replies = chat.answer(first)
    return chat, replies + chat.answer(SECOND[: len(images)])


@torch.inference_mode()
def full_forward(mllm: HfMLLM, image: Image, text: str, later: Sequence[int]) -> torch.Tensor:
    """Log-probabilities after each token of an opened prompt and the ids after it: one pass, no cache, no batch."""
    speaker = mllm._speaker
    inputs = dict(speaker.template.open([text], [mllm._sight.prepare(image)]))
    inputs.pop("labels", None)
    # tokens after a prompt are text; in a prefix LM they are the causal part
    kinds = {"input_ids": None, "attention_mask": 1, "mm_token_type_ids": 0, "token_type_ids": int(speaker.prefix_lm)}
    for name, kind in kinds.items():
        if name in inputs:
            new = torch.tensor([list(later)] if kind is None else [[kind] * len(later)], dtype=torch.long)
            inputs[name] = torch.cat([inputs[name], new], dim=1)
    return mllm.model(**inputs, use_cache=False).logits[0].log_softmax(dim=-1)


def expected_choice(mllm: HfMLLM, image: Image, text: str, later: Sequence[int], options: Sequence[str]) -> np.ndarray:
    """The options' log-probabilities up to the token that distinguishes each, by one full forward pass each."""
    rendered = [[*mllm._speaker.template.reply(option), mllm._speaker.template.end_id] for option in options]
    scores = []
    for option in rendered:
        others = [other for other in rendered if other is not option]
        size = next(n for n in range(1, len(option) + 1) if all(option[:n] != other[:n] for other in others))
        log_probabilities = full_forward(mllm, image, text, [*later, *option[:size]])[-size - 1 : -1]
        scores.append(float(log_probabilities[range(size), option[:size]].sum()))
    return np.array(scores) - np.logaddexp.reduce(scores)


def test_the_logits_are_far_from_flat(family: str, talker: Talker, images: list[Image]) -> None:
    mllm = talker(family)
    logs = full_forward(mllm, images[0], FIRST[0], [])[-1]
    other = full_forward(mllm, images[1], FIRST[0], [])[-1]
    assert logs.std() > 0.5
    assert (logs - other).abs().max() > 0.1, "the image must matter"


def test_a_cached_second_turn_equals_the_full_forward(family: str, talker: Talker, images: list[Image]) -> None:
    mllm = talker(family)
    chat, replies = talk(mllm, images)
    assert len({len(row.tail) for row in chat._rows}) == 2, "replies and questions must differ in length"
    for row, image, text in zip(chat._rows, images, FIRST, strict=True):
        expected = full_forward(mllm, image, text, row.tail)
        with torch.inference_mode():
            logits = feed(
                mllm.model, row.prefix.rows([row.at]), torch.tensor([row.tail]), keep=torch.arange(len(row.tail))
            )
        torch.testing.assert_close(
            logits[0].log_softmax(dim=-1), expected[-len(row.tail) :], atol=1e-4, rtol=0, check_dtype=False
        )
    for index, reply in enumerate(replies[2:]):  # the reply is the most likely one in the full forward pass
        row = chat._rows[index]
        reply_ids = row.tail[len(point_answers(chat, index)) :]
        best = full_forward(mllm, images[index], FIRST[index], row.tail)[:-1].argmax(dim=-1)
        assert reply.text == mllm._speaker.template.text(reply_ids)
        assert best[len(best) - len(reply_ids) :].tolist() == reply_ids


def point_answers(chat: HfChat, index: int) -> list[int]:
    """The ids after a row's prefix up to the start of its second reply."""
    row, question = chat._rows[index], chat._speaker.template.between(chat._rows[index].texts)
    starts = [n for n in range(len(row.tail)) if row.tail[n : n + len(question)] == question]
    return row.tail[: starts[0] + len(question)]


@pytest.mark.parametrize("options", OPTIONS, ids=["one token", "several tokens"])
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "repeated"])
def test_option_probabilities_equal_the_full_forward(
    family: str, options: Sequence[str], pack: bool, talker: Talker, images: list[Image]
) -> None:
    loaded = talker(family)
    mllm = HfMLLM(loaded.model, loaded.processor, loaded.dialect, max_new_tokens=8, kv_tokens=300, pack=pack)
    chat, _ = talk(mllm, images)
    for index, image_probabilities in enumerate(chat.choose(QUESTIONS, options)):
        row = chat._rows[index]
        for question, probabilities in zip(QUESTIONS[index], image_probabilities, strict=True):
            later = [*row.tail, *chat._next(row, question)]
            expected = expected_choice(mllm, images[index], FIRST[index], later, options)
            np.testing.assert_allclose(np.log(probabilities), expected, atol=1e-4)


def test_option_probabilities_before_any_answer_equal_the_full_forward(
    family: str, talker: Talker, images: list[Image]
) -> None:
    mllm = talker(family)
    chat = mllm.open(images)
    for options in OPTIONS:
        for image, questions, image_probabilities in zip(
            images, QUESTIONS, chat.choose(QUESTIONS, options), strict=True
        ):
            for question, probabilities in zip(questions, image_probabilities, strict=True):
                expected = expected_choice(mllm, image, question, [], options)
                np.testing.assert_allclose(np.log(probabilities), expected, atol=1e-4)
    assert chat.answer(FIRST) == mllm.open(images).answer(FIRST), "choose must not change the chat"


def test_batched_results_equal_single_results(family: str, talker: Talker, images: list[Image]) -> None:
    mllm = talker(family)
    chat, replies = talk(mllm, images)
    probabilities = chat.choose(QUESTIONS, OPTIONS[0])
    for index, image in enumerate(images):
        single = mllm.open([image])
        assert single.answer([FIRST[index]]) == [replies[index]]
        assert single.answer([SECOND[index]]) == [replies[index + 2]]
        np.testing.assert_allclose(
            np.log(single.choose([QUESTIONS[index]], OPTIONS[0])[0]), np.log(probabilities[index]), atol=1e-4
        )


def test_another_conversation_in_between_changes_nothing(family: str, talker: Talker, images: list[Image]) -> None:
    mllm = talker(family)
    undisturbed, replies = talk(mllm, images)
    chat = mllm.open(images)
    assert chat.answer(FIRST) == replies[:2]
    mllm.open([images[1][:, ::2]]).answer(["Where?"])  # some models keep the positions of the last image
    assert chat.answer(SECOND) == replies[2:]
    for actual, expected in zip(
        chat.choose(QUESTIONS, OPTIONS[0]), undisturbed.choose(QUESTIONS, OPTIONS[0]), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_the_order_of_questions_changes_nothing(family: str, talker: Talker, images: list[Image]) -> None:
    chat, _ = talk(talker(family), images)
    forwards = chat.choose(QUESTIONS, OPTIONS[0])
    backwards = chat.choose([point_answers[::-1] for point_answers in QUESTIONS], OPTIONS[0])
    for actual, reversed_actual in zip(forwards, backwards, strict=True):
        np.testing.assert_allclose(np.log(actual), np.log(reversed_actual[::-1]), atol=1e-5)


@pytest.mark.parametrize("begin", ["answer", "choose"])
def test_an_image_is_encoded_once(family: str, begin: str, talker: Talker, images: list[Image]) -> None:
    mllm = talker(family)
    if begin == "choose" and mllm._speaker.prefix_lm:
        pytest.skip("prompts of a prefix LM share no cached start")
    calls: list[int] = []
    hook = mllm.model.get_encoder("image").register_forward_hook(lambda *_: calls.append(1))
    chat = mllm.open(images)
    if begin == "choose":
        chat.choose(QUESTIONS, OPTIONS[0])
    chat.answer(FIRST)
    chat.answer(SECOND)
    chat.choose(QUESTIONS, OPTIONS[1])
    hook.remove()
    assert len(calls) == 1, "both images in one call"


def test_an_image_with_an_empty_text_is_skipped(family: str, talker: Talker, images: list[Image]) -> None:
    mllm = talker(family)
    _, replies = talk(mllm, images)
    chat = mllm.open(images)
    assert chat.answer(["", FIRST[1]]) == [Reply(""), replies[1]]
    assert chat.answer([FIRST[0], SECOND[1]]) == [replies[0], replies[3]]
    assert chat.answer([SECOND[0], ""]) == [replies[2], Reply("")]


class Boxed:
    """A model that answers every question with a box and is otherwise unchanged."""

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


def test_prompters_run(family: str, talker: Talker, images: list[Image]) -> None:
    mllm = talker(family)
    queries = [Query(image, "the left cat") for image in images]
    assert [len(prompting.replies) for prompting in PPG(mllm)(queries)] == [1, 1]
    assert [len(prompting.replies) for prompting in PQPP(mllm)(queries)] == [1, 1]
    for prompting in PQPP(Boxed(mllm), points=9)(queries):
        assert len(prompting.prompts) == 1
        assert len(prompting.point_answers) == 9
        assert len({point_answers.yes for point_answers in prompting.point_answers}) == 9, (
            "each point has its own answer"
        )
        np.testing.assert_allclose(prompting.prompts[0].box.xyxy, (10, 20, 50, 60), atol=4)
