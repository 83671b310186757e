from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from jaxtyping import Bool

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, bounding_box, box_iou, iou
from sam4mllm.synthetic.describe import KINDS, Expression
from sam4mllm.synthetic.figures import COLOURS
from sam4mllm.synthetic.paint import PALETTE
from sam4mllm.synthetic.phrases import WORDS
from sam4mllm.synthetic.scenes import SPLITS, Drawing, Level, draw, draw_split, split_seed

MANY = 120
LEVELS = {"one": Level((1, 1)), "two": Level((1, 2)), "four": Level(), "six": Level((6, 6), twins=0.0, nested=1.0)}


@pytest.fixture(scope="module", params=LEVELS)
def drawings(request: pytest.FixtureRequest) -> list[Drawing]:
    return [draw_split("test", index, LEVELS[request.param]) for index in range(MANY)]


@pytest.fixture(scope="module")
def usual() -> list[Drawing]:
    return [draw_split("test", index) for index in range(2 * MANY)]


def digest(drawing: Drawing) -> str:
    parts = [drawing.image.tobytes(), *(figure.mask.tobytes() + figure.full.tobytes() for figure in drawing.figures)]
    expressions = repr([(e.text, e.targets, e.kind, e.ambiguous) for e in drawing.expressions])
    return hashlib.sha256(b"".join(parts) + expressions.encode()).hexdigest()


def all_expressions(drawings: list[Drawing]) -> Iterator[tuple[Drawing, Expression]]:
    return ((drawing, expression) for drawing in drawings for expression in drawing.expressions)


@pytest.mark.parametrize("side", [32, 112, 150])
def test_a_seed_gives_the_same_bytes_regardless_of_earlier_draws(side: int) -> None:
    first = digest(draw_split("train", 7, size=side))
    draw_split("train", 8, size=side)
    assert digest(draw_split("train", 7, size=side)) == first
    assert draw_split("train", 7, size=side).image.shape == (side, side, 3)


def test_all_scenes_of_all_splits_differ() -> None:
    assert len({digest(draw_split(split, index)) for split in SPLITS for index in range(100)}) == 3 * 100
    assert len({split_seed(split, index) for split in SPLITS for index in range(1000)}) == 3 * 1000


def test_masks_are_disjoint_parts_of_their_figures(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        assert np.sum([figure.mask for figure in drawing.figures], axis=0).max() <= 1
        for figure in drawing.figures:
            assert (figure.mask <= figure.full).all()
            assert figure.box == bounding_box(figure.full)
            assert figure.mask.sum() >= 0.4 * figure.full.sum()  # sufficiently visible


def test_hidden_pixels_are_covered_by_figures_of_higher_depth(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        assert [figure.depth for figure in drawing.figures] == list(range(len(drawing.figures)))
        for low in drawing.figures:
            hidden = low.full & ~low.mask
            above = [high.full for high in drawing.figures if high.depth > low.depth]
            assert (hidden <= np.any(above, axis=0)).all() if above else not hidden.any()


def test_every_expression_has_the_targets_of_its_phrase_and_kind(drawings: list[Drawing]) -> None:
    sizes = {"res": (1, 1), "several": (2, 8), "none": (0, 0), "reasoning": (1, 1)}
    for drawing in drawings:
        assert len({expression.text for expression in drawing.expressions}) == len(drawing.expressions)
    for drawing, expression in all_expressions(drawings):
        assert expression.text == expression.phrase.text
        assert expression.phrase.targets(drawing.figures) == frozenset(expression.targets)
        assert sizes[expression.kind][0] <= len(expression.targets) <= sizes[expression.kind][1]
        assert len(drawing.masks(expression)) == len(expression.targets)


def test_phrases_of_attributes_refer_to_the_figures_with_these_attributes(usual: list[Drawing]) -> None:
    checked = 0
    for drawing, expression in all_expressions(usual):
        terms = expression.text.split()
        if expression.kind != "res" or len(terms) > 4 or terms[0] != "the":
            continue  # longer than "the small red ring"
        attributes = [{"the", "shape", figure.shape, figure.colour, figure.size} for figure in drawing.figures]
        matches = (index for index, values in enumerate(attributes) if values.issuperset(terms))
        assert tuple(matches) == expression.targets
        checked += 1
    assert checked > MANY


def test_phrases_use_only_the_vocabulary_and_nearly_all_of_it() -> None:
    drawings = [draw_split("train", index) for index in range(MANY)]
    used = set(" ".join(expression.text for _, expression in all_expressions(drawings)).split())
    assert used <= set(WORDS)
    assert len(used) > 0.9 * len(WORDS)


def test_every_kind_is_frequent_and_only_requested_kinds_occur(usual: list[Drawing]) -> None:
    counts = Counter(expression.kind for drawing in usual for expression in drawing.expressions)
    assert counts["none"] == len(usual)
    assert all(counts[kind] >= 0.5 * len(usual) for kind in KINDS)
    restricted = [draw_split("test", index, Level((2, 3), kinds=("several",))) for index in range(20)]
    assert {expression.kind for drawing in restricted for expression in drawing.expressions} == {"several"}


def test_a_level_bounds_the_number_of_figures() -> None:
    for least, most in ((1, 1), (2, 2), (1, 4)):
        counts = Counter(len(draw_split("val", index, Level((least, most))).figures) for index in range(MANY))
        assert set(counts) == set(range(least, most + 1))


def test_an_expression_is_ambiguous_if_another_figure_shares_the_box(usual: list[Drawing]) -> None:
    total = ambiguous = 0
    for drawing, expression in all_expressions(usual):
        boxes = [bounding_box(figure.mask) for figure in drawing.figures]
        strangers = set(range(len(boxes))) - set(expression.targets)
        shares_box = any(box_iou(boxes[t], boxes[s]) >= 0.6 for t in expression.targets for s in strangers)  # type: ignore[arg-type]
        assert expression.ambiguous == shares_box
        assert (expression in drawing.ambiguous) == shares_box
        total, ambiguous = total + 1, ambiguous + shares_box
    assert 0.1 < ambiguous / total < 0.35


def test_figures_that_share_a_box_have_disjoint_masks(usual: list[Drawing]) -> None:
    """Points are needed: no mask from the box alone can be right for both figures."""
    for drawing, expression in all_expressions(usual):
        if expression.ambiguous and expression.kind == "res":
            target = drawing.figures[expression.targets[0]]
            strangers = [figure for figure in drawing.figures if figure is not target]
            neighbours = [figure for figure in strangers if box_iou(figure.seen_box, target.seen_box) >= 0.6]
            assert neighbours
            assert all(iou(target.mask, figure.mask) == 0 for figure in neighbours)


def test_colour_predicts_the_mask_only_inside_the_box(usual: list[Drawing]) -> None:
    """IoU of a figure's mask with the pixels whose chroma is nearest to the figure's colour."""

    def chroma(pixels: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        lab = cv2.cvtColor(pixels.reshape(-1, 1, 3).astype(np.uint8), cv2.COLOR_RGB2LAB)
        return lab[:, 0, 1:].astype(np.float32)

    palette, everywhere, inside = chroma(np.array([PALETTE[colour] for colour in COLOURS])), [], []
    for drawing in usual[:MANY]:
        distance = np.linalg.norm(chroma(drawing.image)[:, None] - palette, axis=-1)
        nearest = distance.argmin(axis=1).reshape(drawing.image.shape[:2])
        for figure in drawing.figures:
            coloured = nearest == COLOURS.index(figure.colour)
            everywhere.append(iou(coloured, figure.mask))
            inside.append(iou(coloured & _within(figure.seen_box, coloured.shape), figure.mask))
    assert 0.3 < np.mean(everywhere) < 0.75
    assert 0.8 < np.mean(inside) < 0.95  # .88 in docs/tiny.md


def _within(box: Box, shape: tuple[int, ...]) -> Bool[np.ndarray, "h w"]:
    """The pixels inside a box."""
    rows, columns = np.indices(shape) + 0.5
    inside: Bool[np.ndarray, "h w"] = (box.x0 < columns) & (columns < box.x1) & (box.y0 < rows) & (rows < box.y1)
    return inside


def test_background_and_figures_are_textured(usual: list[Drawing]) -> None:
    for drawing in usual[:50]:
        ground = ~np.any([figure.full for figure in drawing.figures], axis=0)
        assert drawing.image[ground].std(axis=0).max() > 5
        assert all(drawing.image[figure.mask].std(axis=0).max() > 5 for figure in drawing.figures)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": (0, 1)}, r"1 <= least <= greatest <= 8, got \(0, 1\)"),
        ({"objects": (3, 2)}, r"got \(3, 2\)"),
        ({"objects": (1, 9)}, r"got \(1, 9\)"),
        ({"kinds": ()}, r"some of res, several, none, reasoning, got \(\)"),
        ({"twins": 0.8, "nested": 0.3}, "sum to 1 at most, got 0.8 and 0.3"),
        ({"twins": -0.1}, "got -0.1"),
    ],
)
def test_an_invalid_level_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Level(**options)  # type: ignore[arg-type]


def test_a_negative_index_and_a_tiny_image_are_refused() -> None:
    with pytest.raises(UserError, match="index at least 0"):
        split_seed("test", -1)
    with pytest.raises(UserError, match="at least 32 x 32 pixels, got 31"):
        draw(np.random.default_rng(0), size=31)
