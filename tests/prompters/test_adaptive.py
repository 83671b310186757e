import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.prompters import Asked, Prompter, Query
from sam4mllm.prompters.adaptive import AdaptivePQPP, Answers
from sam4mllm.prompters.pqpp import PQPP
from tests.prompters.masked import PLACE, disk, half, knowing

MASKS = {"disk": disk(), "half": half(), "none": np.zeros((200, 200), bool), "dot": disk(radius=2.0)}
MASKS["ring"] = disk() & ~disk(radius=40.0)
IMAGE = np.zeros((200, 200, 3), dtype=np.uint8)


def queries(*keys):
    return [Query(IMAGE, "it", key) for key in keys]


def places(asked: tuple[Asked, ...]) -> np.ndarray:
    return np.array([(one.x, one.y) for one in asked])


def label_error(mask: np.ndarray, box: Box, side: int, asked: tuple[Asked, ...]) -> float:
    """The share of the box whose sign is told wrongly by the answers, interpolated from a grid of ``side`` on."""
    answers = Answers(box, side)
    while True:
        cells = (places(asked) - (box.x0, box.y0)) / (box.width, box.height) * answers.side
        own = np.isclose(cells % 1.0, 0.5).all(axis=1)
        answers.heard = [one for one, at_centre in zip(asked, own, strict=True) if at_centre]
        if answers.side > 200:
            break
        answers._refine()
    rows, columns = (np.indices((answers.side,) * 2) + 0.5) / answers.side
    true = mask[(box.y0 + rows * box.height).astype(int), (box.x0 + columns * box.width).astype(int)]
    return float(((answers._filled(answers.yes) > 0.5) != true).mean())


def test_it_is_a_prompter():
    assert isinstance(AdaptivePQPP(knowing(MASKS)), Prompter)


@pytest.mark.parametrize("key", ["disk", "half", "ring"])
def test_it_finds_an_edge_with_fewer_questions_than_the_plain_grid(key):
    [plain] = PQPP(knowing(MASKS), points=81)(queries(key))
    [ours] = AdaptivePQPP(knowing(MASKS), points=9, budget=49)(queries(key))
    box = plain.prompts[0].box
    assert len(ours.asked) <= 49
    assert label_error(MASKS[key], box, 3, ours.asked) <= label_error(MASKS[key], box, 9, plain.asked)


@pytest.mark.parametrize("budget", [9, 10, 17, 40, 81, 200, 1000])
def test_the_budget_is_of_each_box_and_never_exceeded(budget):
    found = AdaptivePQPP(knowing(MASKS), points=9, budget=budget)(queries("disk", "none", "half"))
    asked = [len(one.asked) for one in found]
    assert max(asked) <= budget
    assert asked[1] == 0
    assert budget > 40 or asked == [budget, 0, budget]


@pytest.mark.parametrize("points", [1, 9, 25])
def test_a_budget_of_the_coarse_grid_is_plain_pqpp(points):
    [plain] = PQPP(knowing(MASKS), points=points)(queries("disk"))
    [ours] = AdaptivePQPP(knowing(MASKS), points=points, budget=points)(queries("disk"))
    assert (ours.prompts, ours.asked, ours.replies) == (plain.prompts, plain.asked, plain.replies)


def test_no_point_is_asked_twice_and_all_lie_on_grids_within_each_other():
    [found] = AdaptivePQPP(knowing(MASKS), points=4, budget=300)(queries("half"))
    box = found.prompts[0].box
    cells = (places(found.asked) - (box.x0, box.y0)) / (box.width, box.height) * (2 * 3**4)
    assert np.allclose(cells % 1.0, 0.5)
    assert len({tuple(cell) for cell in np.floor(cells).astype(int).tolist()}) == len(found.asked)


def test_where_all_are_sure_and_off_nothing_more_is_asked():
    mllm = ScriptedMLLM(knowing(MASKS)._says, lambda *_: [0.0, 1.0])
    [found] = AdaptivePQPP(mllm, points=9, budget=81)(queries("disk"))
    assert len(found.asked) == 9


def test_an_object_that_fills_its_box_is_asked_about_at_the_edges_alone():
    mllm = knowing({"full": np.ones((200, 200), bool)})
    [found] = AdaptivePQPP(mllm, points=9, budget=81)(queries("full"))
    later = places(found.asked[9:])
    assert len(later) > 0
    assert np.minimum(later, 200 - later).min(axis=1).max() < 200 / 9


def test_unsure_answers_draw_questions_to_them():
    """Right of the middle they are unsure, and all others a sure no."""

    def leans(key, image, turns, question, options):
        return [0.45, 0.55] if int(PLACE.findall(question)[0][0]) > 600 else [0.0, 1.0]

    mllm = ScriptedMLLM(knowing({"full": np.ones((200, 200), bool)})._says, leans)
    [found] = AdaptivePQPP(mllm, points=9, budget=25)(queries("full"))
    assert len(found.asked) == 25
    assert all(one.x > 100 for one in found.asked[9:])


def test_a_doubted_box_is_asked_all_over_as_a_grid_three_times_as_fine():
    mllm = ScriptedMLLM(knowing(MASKS)._says, lambda *_: [0.5, 0.5])
    [found] = AdaptivePQPP(mllm, points=9, budget=81)(queries("disk"))
    [plain] = PQPP(mllm, points=81)(queries("disk"))
    both = (sorted(map(tuple, np.round(places(one.asked), 6).tolist())) for one in (found, plain))
    assert len({tuple(one) for one in both}) == 1


def test_no_place_is_smaller_than_a_pixel():
    mllm = ScriptedMLLM(knowing(MASKS)._says, lambda *_: [0.5, 0.5])
    [found] = AdaptivePQPP(mllm, points=1, budget=500)(queries("dot"))
    assert len(found.asked) == 9  # the box is 4 pixels wide


def test_the_same_question_gives_the_same_answer_alone_and_in_a_batch():
    prompter = AdaptivePQPP(knowing(MASKS), points=9, budget=30)
    together = prompter(queries("half", "none", "disk"))
    for key, one in zip(("half", "none", "disk"), together, strict=True):
        [alone] = prompter(queries(key))
        assert (alone.prompts, alone.asked) == (one.prompts, one.asked)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"points": 9, "budget": 8}, "does not hold the 9 points"),
        ({"points": 5}, "a square number"),
        ({"sure_no": 0.3}, "within .5 and 1"),
    ],
)
def test_an_impossible_setting_is_refused(options, says):
    with pytest.raises(UserError, match=says):
        AdaptivePQPP(knowing(MASKS), **options)


def test_no_queries_ask_nothing():
    assert AdaptivePQPP(knowing(MASKS))([]) == []
