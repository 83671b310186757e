import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.prompters import PointAnswer, Prompter, Query
from sam4mllm.prompters.adaptive import AdaptivePQPP, AnswerMap
from sam4mllm.prompters.pqpp import PQPP
from tests.prompters.masked import PLACE, disk, half, mllm_with_masks

MASKS = {"disk": disk(), "half": half(), "none": np.zeros((200, 200), bool), "dot": disk(radius=2.0)}
MASKS["ring"] = disk() & ~disk(radius=40.0)
IMAGE = np.zeros((200, 200, 3), dtype=np.uint8)


def queries(*keys):
    return [Query(IMAGE, "it", key) for key in keys]


def places(point_answers: tuple[PointAnswer, ...]) -> np.ndarray:
    return np.array([(answer.x, answer.y) for answer in point_answers])


def label_error(mask: np.ndarray, box: Box, side: int, point_answers: tuple[PointAnswer, ...]) -> float:
    """The share of the box that the answers, interpolated from a grid of ``side`` points, label wrongly."""
    answers = AnswerMap(box, side)
    while True:
        cells = (places(point_answers) - (box.x0, box.y0)) / (box.width, box.height) * answers.side
        at_centre = np.isclose(cells % 1.0, 0.5).all(axis=1)
        answers.heard = [answer for answer, is_centre in zip(point_answers, at_centre, strict=True) if is_centre]
        if answers.side > 200:
            break
        answers._refine()
    rows, columns = (np.indices((answers.side,) * 2) + 0.5) / answers.side
    true = mask[(box.y0 + rows * box.height).astype(int), (box.x0 + columns * box.width).astype(int)]
    return float(((answers._filled(answers.yes) > 0.5) != true).mean())


def test_adaptive_pqpp_is_a_prompter():
    assert isinstance(AdaptivePQPP(mllm_with_masks(MASKS)), Prompter)


@pytest.mark.parametrize("key", ["disk", "half", "ring"])
def test_adaptive_pqpp_finds_an_edge_with_fewer_questions_than_a_regular_grid(key):
    [plain] = PQPP(mllm_with_masks(MASKS), points=81)(queries(key))
    [adaptive] = AdaptivePQPP(mllm_with_masks(MASKS), points=9, budget=49)(queries(key))
    box = plain.prompts[0].box
    assert len(adaptive.point_answers) <= 49
    assert label_error(MASKS[key], box, 3, adaptive.point_answers) <= label_error(
        MASKS[key], box, 9, plain.point_answers
    )


@pytest.mark.parametrize("budget", [9, 10, 17, 40, 81, 200, 1000])
def test_the_budget_applies_to_each_box_and_is_never_exceeded(budget):
    promptings = AdaptivePQPP(mllm_with_masks(MASKS), points=9, budget=budget)(queries("disk", "none", "half"))
    counts = [len(prompting.point_answers) for prompting in promptings]
    assert max(counts) <= budget
    assert counts[1] == 0
    assert budget > 40 or counts == [budget, 0, budget]


@pytest.mark.parametrize("points", [1, 9, 25])
def test_with_the_budget_of_the_coarse_grid_adaptive_equals_pqpp(points):
    [plain] = PQPP(mllm_with_masks(MASKS), points=points)(queries("disk"))
    [adaptive] = AdaptivePQPP(mllm_with_masks(MASKS), points=points, budget=points)(queries("disk"))
    assert (adaptive.prompts, adaptive.point_answers, adaptive.replies) == (
        plain.prompts,
        plain.point_answers,
        plain.replies,
    )


def test_no_point_is_classified_twice_and_all_are_on_nested_grids():
    [prompting] = AdaptivePQPP(mllm_with_masks(MASKS), points=4, budget=300)(queries("half"))
    box = prompting.prompts[0].box
    cells = (places(prompting.point_answers) - (box.x0, box.y0)) / (box.width, box.height) * (2 * 3**4)
    assert np.allclose(cells % 1.0, 0.5)
    assert len({tuple(cell) for cell in np.floor(cells).astype(int).tolist()}) == len(prompting.point_answers)


def test_no_points_are_added_if_every_answer_is_a_certain_no():
    mllm = ScriptedMLLM(mllm_with_masks(MASKS)._says, lambda *_: [0.0, 1.0])
    [prompting] = AdaptivePQPP(mllm, points=9, budget=81)(queries("disk"))
    assert len(prompting.point_answers) == 9


def test_for_an_object_that_fills_its_box_points_are_added_only_near_the_edges():
    mllm = mllm_with_masks({"full": np.ones((200, 200), bool)})
    [prompting] = AdaptivePQPP(mllm, points=9, budget=81)(queries("full"))
    later = places(prompting.point_answers[9:])
    assert len(later) > 0
    assert np.minimum(later, 200 - later).min(axis=1).max() < 200 / 9


def test_points_are_added_where_answers_are_uncertain():
    """Answers right of x = 600 are uncertain; all others are a certain no."""

    def leans(key, image, turns, question, options):
        return [0.45, 0.55] if int(PLACE.findall(question)[0][0]) > 600 else [0.0, 1.0]

    mllm = ScriptedMLLM(mllm_with_masks({"full": np.ones((200, 200), bool)})._says, leans)
    [prompting] = AdaptivePQPP(mllm, points=9, budget=25)(queries("full"))
    assert len(prompting.point_answers) == 25
    assert all(answer.x > 100 for answer in prompting.point_answers[9:])


def test_if_every_answer_is_uncertain_the_points_are_a_grid_three_times_as_fine():
    mllm = ScriptedMLLM(mllm_with_masks(MASKS)._says, lambda *_: [0.5, 0.5])
    [prompting] = AdaptivePQPP(mllm, points=9, budget=81)(queries("disk"))
    [plain] = PQPP(mllm, points=81)(queries("disk"))
    points = (
        sorted(map(tuple, np.round(places(prompting.point_answers), 6).tolist())) for prompting in (prompting, plain)
    )
    assert len(set(map(tuple, points))) == 1


def test_no_cell_is_smaller_than_a_pixel():
    mllm = ScriptedMLLM(mllm_with_masks(MASKS)._says, lambda *_: [0.5, 0.5])
    [prompting] = AdaptivePQPP(mllm, points=1, budget=500)(queries("dot"))
    assert len(prompting.point_answers) == 9  # the box is 4 pixels wide


def test_a_query_gives_the_same_prompts_alone_and_in_a_batch():
    prompter = AdaptivePQPP(mllm_with_masks(MASKS), points=9, budget=30)
    batch = prompter(queries("half", "none", "disk"))
    for key, batched in zip(("half", "none", "disk"), batch, strict=True):
        [single] = prompter(queries(key))
        assert (single.prompts, single.point_answers) == (batched.prompts, batched.point_answers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 9, "budget": 8}, "less than the 9 points"),
        ({"points": 5}, "a square number"),
        ({"sure_no": 0.3}, "within .5 and 1"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        AdaptivePQPP(mllm_with_masks(MASKS), **options)


def test_no_queries_give_no_promptings():
    assert AdaptivePQPP(mllm_with_masks(MASKS))([]) == []
