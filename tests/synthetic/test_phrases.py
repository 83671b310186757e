from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam4mllm.geometry.prompts import bounding_box
from sam4mllm.synthetic.figures import SHAPES, Figure, Pose, rasterise
from sam4mllm.synthetic.phrases import (
    RIDDLES,
    WORDS,
    AllObjects,
    Description,
    ObjectAtSide,
    Phrase,
    RelatedObject,
    Riddle,
    SingleObject,
    TwoObjects,
    has_relation,
)

SIDE = 100


def figure(
    shape: str, colour: str, x: float, y: float, radius: float = 10, depth: int = 0, bore: float = 0.7
) -> Figure:
    full, hole = rasterise(Pose(shape, x, y, radius, 0.0, bore), SIDE)
    box = bounding_box(full)
    assert box is not None
    return Figure(shape, colour, "small" if radius < 16 else "big", depth, full, full, hole, box)


SCENE = (
    figure("ring", "red", 30, 70, 26),  # 0
    figure("circle", "blue", 30, 70, 12, depth=1),  # 1, in the ring
    figure("circle", "red", 80, 20, depth=2),  # 2
    figure("cross", "blue", 84, 26, depth=3, bore=0.3),  # 3, over the red circle
    figure("square", "green", 20, 20, depth=4),  # 4
)


RING, CIRCLE, SQUARE, CROSS, BAR, FRAME = map(Description, ("ring", "circle", "square", "cross", "bar", "frame"))
BIG, SMALL = (Description(size=size) for size in ("big", "small"))
RED_CIRCLE, BLUE_CROSS = Description("circle", "red"), Description("cross", "blue")


@pytest.mark.parametrize(
    ("phrase", "text", "targets"),
    [
        (SingleObject(RING), "the ring", {0}),
        (SingleObject(CIRCLE), "the circle", None),
        (SingleObject(Description("circle", "blue")), "the blue circle", {1}),
        (SingleObject(Description(None, "green")), "the green shape", {4}),
        (SingleObject(BIG), "the big shape", {0}),
        (SingleObject(Description("circle", "green")), "the green circle", set()),
        (ObjectAtSide(CIRCLE, "left"), "the circle on the left", {1}),
        (ObjectAtSide(CIRCLE, "top"), "the circle at the top", {2}),
        (ObjectAtSide(SQUARE, "top"), "the square at the top", {4}),
        (ObjectAtSide(SQUARE, "bottom"), "the square at the bottom", None),
        (ObjectAtSide(BAR, "bottom"), "the bar at the bottom", set()),
        (ObjectAtSide(SMALL, "right"), "the small shape on the right", None),
        (RelatedObject(CIRCLE, "inside", RING), "the circle inside the ring", {1}),
        (RelatedObject(SQUARE, "inside", RING), "the square inside the ring", set()),
        (RelatedObject(CIRCLE, "inside", FRAME), "the circle inside the frame", set()),
        (RelatedObject(SQUARE, "left", RED_CIRCLE), "the square left of the red circle", {4}),
        (RelatedObject(SQUARE, "right", RED_CIRCLE), "the square right of the red circle", set()),
        (RelatedObject(SQUARE, "left", CIRCLE), "the square left of the circle", None),
        (RelatedObject(CIRCLE, "behind", CROSS), "the circle behind the cross", {2}),
        (RelatedObject(CROSS, "front", RED_CIRCLE), "the cross in front of the red circle", {3}),
        (RelatedObject(CROSS, "behind", RED_CIRCLE), "the cross behind the red circle", set()),
        (AllObjects(CIRCLE), "all circles", {1, 2}),
        (AllObjects(CIRCLE, two=True), "both circles", {1, 2}),
        (AllObjects(SMALL, two=True), "both small shapes", None),
        (AllObjects(CROSS), "all crosses", None),
        (AllObjects(Description(None, "white")), "all white shapes", set()),
        (TwoObjects(RING, BLUE_CROSS), "the ring and the blue cross", {0, 3}),
        (TwoObjects(RING, CIRCLE), "the ring and the circle", None),
        (TwoObjects(RING, BIG), "the ring and the big shape", None),
        (TwoObjects(RING, BAR), "the ring and the bar", None),
        (Riddle("it", frozenset({"square"})), "it", {4}),
        (Riddle("it", frozenset({"square"}), frozenset({"cross"})), "it", None),
        (Riddle("it", frozenset({"circle"})), "it", None),
        (Riddle("it", frozenset({"bar"})), "it", set()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_phrase_has_the_expected_text_and_targets(phrase: Phrase, text: str, targets: set[int] | None) -> None:
    assert phrase.text == text
    assert phrase.targets(SCENE) == (None if targets is None else frozenset(targets))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [(20, 50, True), (20, 60, True), (45, 50, None), (30, 95, None), (80, 50, False), (50, 90, None)],
    ids=["far left", "a little lower", "barely left", "more below than left", "right", "straight below"],
)
def test_left_of_is_true_false_or_debatable(x: float, y: float, expected: bool | None) -> None:
    assert has_relation(figure("bar", "red", x, y), "left", figure("bar", "blue", 50, 50)) is expected


@pytest.mark.parametrize(
    ("first", "relation", "anchor"),
    [
        pytest.param(figure("circle", "red", 50, 70, 10), "inside", SCENE[0], id="half in a hole"),
        pytest.param(SCENE[3], "inside", SCENE[2], id="on a solid figure"),
        pytest.param(SCENE[1], "front", SCENE[0], id="in a hole"),
    ],
)
def test_inside_and_in_front_can_be_debatable(first: Figure, relation: str, anchor: Figure) -> None:
    assert has_relation(first, relation, anchor) is None


@pytest.mark.parametrize("relation", ["left", "right", "top", "bottom"])
def test_a_direction_never_holds_both_ways(relation: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = (figure("bar", "red", *rng.uniform(10, 90, 2)) for _ in range(2))
        assert not (has_relation(a, relation, b) and has_relation(b, relation, a))


def test_in_front_is_the_converse_of_behind() -> None:
    for a in SCENE:
        for b in SCENE:
            if a is not b:
                assert has_relation(a, "front", b) == has_relation(b, "behind", a)
    assert has_relation(SCENE[2], "front", replace(SCENE[3], depth=0)) is True


def test_every_shape_has_a_riddle_that_fits_it() -> None:
    assert {shape for riddle in RIDDLES for shape in riddle.fits} == set(SHAPES) - {"square"}
    assert all(riddle.fits.isdisjoint(riddle.perhaps) for riddle in RIDDLES)


def test_the_vocabulary_is_sorted_and_small() -> None:
    assert list(WORDS) == sorted(set(WORDS))
    assert len(WORDS) <= 70
