import numpy as np
import PIL.Image
import pytest

from sam4mllm import PPG, BoxSegmenter, Oracle, Pipeline, Query, ScriptedMLLM
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.images.files import read_image
from sam4mllm.images.overlay import overlay
from sam4mllm.language.messages import Reply
from sam4mllm.pipeline import drawn
from sam4mllm.prompters import Asked, Prompting
from sam4mllm.prompters.box import BoxPrompter

LEFT, RIGHT = Prompt(Box(0, 0, 4, 10)), Prompt(Box(6, 2, 10, 8))


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (10, 10, 3), np.uint8)


class Counting:
    """A box segmenter that remembers what it was asked."""

    def __init__(self) -> None:
        self.inner, self.takes = BoxSegmenter(), BoxSegmenter.takes
        self.embedded: list[int] = []
        self.calls: list[list[Prompt]] = []

    def embed(self, image):
        self.embedded.append(id(image))
        return Watched(self.inner.embed(image), self.calls)


class Watched:
    def __init__(self, scene, calls) -> None:
        self.scene, self.calls = scene, calls

    def segment(self, prompts):
        self.calls.append(list(prompts))
        return self.scene.segment(prompts)


class Never:
    """A segmenter that must not be touched."""

    takes = BoxSegmenter.takes

    def embed(self, image):
        raise AssertionError("embedded")


def oracle(**prompts: tuple[Prompt, ...]) -> Oracle:
    return Oracle(prompts)


def test_a_phrase_becomes_the_mask_of_its_box():
    pipeline = Pipeline(BoxPrompter(ScriptedMLLM(lambda *_: "[200,300,600,900]")), BoxSegmenter())
    answer = pipeline(picture(), "the mug")
    assert answer.prompts == (Prompt(Box(2, 3, 6, 9)),)
    assert answer.mask.sum() == answer.mask[3:9, 2:6].sum() == 24
    assert answer.replies == (Reply("[200,300,600,900]"),)
    assert answer.readable
    assert set(answer.timings) == {"first", "embed", "segment"}


def test_the_mask_is_the_union_of_the_parts():
    answer = Pipeline(oracle(a=(LEFT, RIGHT)), BoxSegmenter()).many([Query(picture(), "both", "a")])[0]
    assert [part.mask.sum() for part in answer.parts] == [40, 24]
    assert np.array_equal(answer.mask, answer.parts[0].mask | answer.parts[1].mask)


@pytest.mark.parametrize(("reply", "readable"), [("none", True), ("I would rather talk about cheese.", False)])
def test_no_prompts_are_an_empty_mask_and_the_segmenter_sleeps(reply, readable):
    answer = Pipeline(PPG(ScriptedMLLM(lambda *_: reply)), Never())(picture(), "the mug")
    assert (answer.prompts, answer.parts, answer.readable) == ((), (), readable)
    assert answer.mask.shape == (10, 10)
    assert not answer.mask.any()
    assert [said.text for said in answer.replies] == [reply]


def test_a_picture_that_queries_share_is_embedded_once_and_decoded_at_once():
    one, other, segmenter = picture(0), picture(1), Counting()
    queries = [Query(one, "l", "l"), Query(other, "r", "r"), Query(one, "n", "n"), Query(one, "b", "b")]
    answers = Pipeline(oracle(l=(LEFT,), r=(RIGHT,), n=(), b=(RIGHT, LEFT)), segmenter).many(queries)
    assert segmenter.embedded == [id(one), id(other)]
    assert segmenter.calls == [[LEFT, RIGHT, LEFT], [RIGHT]]
    assert [answer.mask.sum() for answer in answers] == [40, 24, 0, 64]
    assert [answer.phrase for answer in answers] == ["l", "r", "n", "b"]
    assert all(answer.image is query.image for answer, query in zip(answers, queries, strict=True))


def test_a_batch_answers_as_one_by_one():
    pipeline = Pipeline(oracle(l=(LEFT,), b=(RIGHT, LEFT)), BoxSegmenter())
    queries = [Query(picture(0), "l", "l"), Query(picture(1), "b", "b")]
    for query, batched in zip(queries, pipeline.many(queries), strict=True):
        alone = pipeline.many([query])[0]
        assert np.array_equal(alone.mask, batched.mask)
        assert alone.prompts == batched.prompts


def test_no_queries_are_no_answers():
    assert Pipeline(PPG(ScriptedMLLM(lambda *_: "none")), Never()).many([]) == []


@pytest.mark.parametrize("phrase", ["", " ", "\n\t"])
def test_an_empty_phrase_is_refused_before_anyone_is_asked(phrase):
    pipeline = Pipeline(PPG(ScriptedMLLM(lambda *_: pytest.fail("asked"))), Never())
    with pytest.raises(UserError, match="phrase is empty"):
        pipeline(picture(), phrase)


def test_a_prompt_that_the_segmenter_cannot_take_is_refused():
    clicked = Prompt(Box(0, 0, 4, 4), (Point(1, 1),))
    with pytest.raises(UserError, match="takes boxes only"):
        Pipeline(oracle(a=(clicked,)), BoxSegmenter()).many([Query(picture(), "x", "a")])


def test_what_the_prompter_kept_is_in_the_answer():
    asked = (Asked(0, 1.5, 2.5, 0.9),)
    prompting = Prompting((LEFT,), (Reply("so", finished=False),), False, asked, {"first": 1.0})
    answer = drawn(BoxSegmenter(), [Query(picture(), "x")], [prompting])[0]
    assert (answer.replies, answer.readable, answer.asked) == (prompting.replies, False, asked)
    assert answer.timings["first"] == 1.0


def test_a_file_is_read_and_an_overlay_is_saved(tmp_path):
    PIL.Image.fromarray(picture()).save(tmp_path / "a.png")
    pipeline = Pipeline(BoxPrompter(ScriptedMLLM(lambda *_: "[200,300,600,900]")), BoxSegmenter())
    answer = pipeline(tmp_path / "a.png", "the mug")
    answer.save(tmp_path / "new" / "mug.png")
    assert np.array_equal(read_image(tmp_path / "new" / "mug.png"), answer.overlay())
    assert np.array_equal(pipeline(str(tmp_path / "a.png"), "the mug").mask, answer.mask)


def test_an_overlay_tells_nothing_there_from_an_unreadable_reply():
    query = Query(picture(), "mug")
    none, lost = (
        drawn(Never(), [query], [Prompting((), readable=readable)])[0].overlay() for readable in (True, False)
    )
    assert np.array_equal(none, overlay(query.image, [], caption="mug (nothing there)"))
    assert np.array_equal(lost, overlay(query.image, [], caption="mug (the reply was not readable)"))


def test_an_overlay_is_a_png_and_says_so(tmp_path):
    answer = drawn(Never(), [Query(picture(), "x")], [Prompting(())])[0]
    with pytest.raises(UserError, match=r"\.png"):
        answer.save(tmp_path / "mug.jpg")
    assert not list(tmp_path.iterdir())
