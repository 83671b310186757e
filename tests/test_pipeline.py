import numpy as np
import PIL.Image
import pytest

from sam4mllm import PPG, BoxSegmenter, Oracle, Pipeline, Query, ScriptedMLLM
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.images.files import read_image
from sam4mllm.images.overlay import overlay
from sam4mllm.language.messages import Reply
from sam4mllm.pipeline import segment_prompts
from sam4mllm.prompters import PointAnswer, Prompting
from sam4mllm.prompters.box import BoxPrompter

LEFT, RIGHT = Prompt(Box(0, 0, 4, 10)), Prompt(Box(6, 2, 10, 8))


def make_image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (10, 10, 3), np.uint8)


class RecordingSegmenter:
    """A box segmenter that records its calls."""

    def __init__(self) -> None:
        self.inner, self.capabilities = BoxSegmenter(), BoxSegmenter.capabilities
        self.embedded: list[int] = []
        self.calls: list[list[Prompt]] = []

    def embed(self, image):
        self.embedded.append(id(image))
        return RecordingScene(self.inner.embed(image), self.calls)


class RecordingScene:
    def __init__(self, scene, calls) -> None:
        self.scene, self.calls = scene, calls

    def segment(self, prompts):
        self.calls.append(list(prompts))
        return self.scene.segment(prompts)


class UnusedSegmenter:
    """A segmenter that fails if it is called."""

    capabilities = BoxSegmenter.capabilities

    def embed(self, image):
        raise AssertionError("embedded")


def oracle(**prompts: tuple[Prompt, ...]) -> Oracle:
    return Oracle(prompts)


def test_a_phrase_becomes_the_mask_of_its_box():
    pipeline = Pipeline(BoxPrompter(ScriptedMLLM(lambda *_: "[200,300,600,900]")), BoxSegmenter())
    answer = pipeline(make_image(), "the mug")
    assert answer.prompts == (Prompt(Box(2, 3, 6, 9)),)
    assert answer.mask.sum() == answer.mask[3:9, 2:6].sum() == 24
    assert answer.replies == (Reply("[200,300,600,900]"),)
    assert answer.readable
    assert set(answer.timings) == {"first", "embed", "segment"}


def test_the_mask_is_the_union_of_the_parts():
    answer = Pipeline(oracle(a=(LEFT, RIGHT)), BoxSegmenter()).many([Query(make_image(), "both", "a")])[0]
    assert [part.mask.sum() for part in answer.parts] == [40, 24]
    assert np.array_equal(answer.mask, answer.parts[0].mask | answer.parts[1].mask)


@pytest.mark.parametrize(("reply", "readable"), [("none", True), ("I would rather talk about cheese.", False)])
def test_without_prompts_the_mask_is_empty_and_the_segmenter_is_not_called(reply, readable):
    answer = Pipeline(PPG(ScriptedMLLM(lambda *_: reply)), UnusedSegmenter())(make_image(), "the mug")
    assert (answer.prompts, answer.parts, answer.readable) == ((), (), readable)
    assert answer.mask.shape == (10, 10)
    assert not answer.mask.any()
    assert [turn.text for turn in answer.replies] == [reply]


def test_an_image_that_queries_share_is_embedded_and_segmented_once():
    first, second, segmenter = make_image(0), make_image(1), RecordingSegmenter()
    queries = [Query(first, "l", "l"), Query(second, "r", "r"), Query(first, "n", "n"), Query(first, "b", "b")]
    answers = Pipeline(oracle(l=(LEFT,), r=(RIGHT,), n=(), b=(RIGHT, LEFT)), segmenter).many(queries)
    assert segmenter.embedded == [id(first), id(second)]
    assert segmenter.calls == [[LEFT, RIGHT, LEFT], [RIGHT]]
    assert [answer.mask.sum() for answer in answers] == [40, 24, 0, 64]
    assert [answer.phrase for answer in answers] == ["l", "r", "n", "b"]
    assert all(answer.image is query.image for answer, query in zip(answers, queries, strict=True))


def test_a_batch_gives_the_same_answers_as_single_queries():
    pipeline = Pipeline(oracle(l=(LEFT,), b=(RIGHT, LEFT)), BoxSegmenter())
    queries = [Query(make_image(0), "l", "l"), Query(make_image(1), "b", "b")]
    for query, batched in zip(queries, pipeline.many(queries), strict=True):
        single = pipeline.many([query])[0]
        assert np.array_equal(single.mask, batched.mask)
        assert single.prompts == batched.prompts


def test_no_queries_give_no_answers():
    assert Pipeline(PPG(ScriptedMLLM(lambda *_: "none")), UnusedSegmenter()).many([]) == []


@pytest.mark.parametrize("phrase", ["", " ", "\n\t"])
def test_an_empty_phrase_is_refused_before_the_model_is_called(phrase):
    pipeline = Pipeline(PPG(ScriptedMLLM(lambda *_: pytest.fail("the model was called"))), UnusedSegmenter())
    with pytest.raises(UserError, match="phrase is empty"):
        pipeline(make_image(), phrase)


def test_a_prompt_that_the_segmenter_does_not_support_is_refused():
    with_point = Prompt(Box(0, 0, 4, 4), (Point(1, 1),))
    with pytest.raises(UserError, match="takes no points"):
        Pipeline(oracle(a=(with_point,)), BoxSegmenter()).many([Query(make_image(), "x", "a")])


def test_an_answer_has_the_fields_of_its_prompting():
    point_answers = (PointAnswer(0, 1.5, 2.5, 0.9),)
    prompting = Prompting((LEFT,), (Reply("so", finished=False),), False, point_answers, {"first": 1.0})
    answer = segment_prompts(BoxSegmenter(), [Query(make_image(), "x")], [prompting])[0]
    assert (answer.replies, answer.readable, answer.point_answers) == (prompting.replies, False, point_answers)
    assert answer.timings["first"] == 1.0


def test_an_image_file_is_read_and_an_overlay_is_saved(tmp_path):
    PIL.Image.fromarray(make_image()).save(tmp_path / "a.png")
    pipeline = Pipeline(BoxPrompter(ScriptedMLLM(lambda *_: "[200,300,600,900]")), BoxSegmenter())
    answer = pipeline(tmp_path / "a.png", "the mug")
    answer.save(tmp_path / "new" / "mug.png")
    assert np.array_equal(read_image(tmp_path / "new" / "mug.png"), answer.overlay())
    assert np.array_equal(pipeline(str(tmp_path / "a.png"), "the mug").mask, answer.mask)


def test_the_caption_distinguishes_no_object_from_an_unreadable_reply():
    query = Query(make_image(), "mug")
    no_object, unreadable = (
        segment_prompts(UnusedSegmenter(), [query], [Prompting((), readable=readable)])[0].overlay()
        for readable in (True, False)
    )
    assert np.array_equal(no_object, overlay(query.image, [], caption="mug (nothing there)"))
    assert np.array_equal(unreadable, overlay(query.image, [], caption="mug (the reply was not readable)"))


def test_an_overlay_is_saved_only_as_png(tmp_path):
    answer = segment_prompts(UnusedSegmenter(), [Query(make_image(), "x")], [Prompting(())])[0]
    with pytest.raises(UserError, match=r"\.png"):
        answer.save(tmp_path / "mug.jpg")
    assert not list(tmp_path.iterdir())
