import numpy as np
import pytest

from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.images.overlay import COLOURS, MIN_SIDE, contact_sheet, overlay

GREY = np.full((480, 640, 3), 120, np.uint8)
GREEN, RED = (0, 150, 60), (215, 25, 35)


def ball(height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.hypot(columns - x, rows - y) < radius


def positions_of(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Centres (x, y) of the pixels with exactly this colour."""
    rows, columns = np.nonzero((image == colour).all(axis=2))
    return np.stack([columns, rows], axis=1) + 0.5


def test_the_input_image_is_not_modified():
    before = GREY.copy()
    overlay(GREY, [Prompt(Box(10, 10, 50, 50), (Point(20, 20),))], [ball(480, 640, 100, 100, 30)], "words")
    assert np.array_equal(GREY, before)


@pytest.mark.parametrize(("x", "y"), [(100.5, 200.5), (320.5, 240.5), (33.25, 400.75)])
@pytest.mark.parametrize(("positive", "colour"), [(True, GREEN), (False, RED)])
def test_a_disc_is_centred_on_its_point(x, y, positive, colour):
    drawing = overlay(GREY, [Prompt(Box(0, 0, 640, 480), (Point(x, y, positive),))])
    assert positions_of(drawing, colour).mean(axis=0) == pytest.approx((x, y), abs=0.35)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (31, 57), (240, 320), (480, 640), (2400, 3200), (20, 900)])
def test_a_disc_is_centred_on_its_point_at_any_image_size(size):
    height, width = size
    prompt = Prompt(Box(0, 0, width, height), (Point(width / 2, height / 2),))
    drawing = overlay(np.full((*size, 3), 120, np.uint8), [prompt])
    factor = drawing.shape[1] / width
    assert factor == drawing.shape[0] / height == int(factor)
    assert max(drawing.shape) >= MIN_SIDE
    centre = width * factor / 2, height * factor / 2
    assert positions_of(drawing, GREEN).mean(axis=0) == pytest.approx(centre, abs=0.35)


def test_plus_and_minus_have_different_shapes():
    prompts = (Prompt(Box(0, 0, 640, 480), (Point(320, 240, positive),)) for positive in (True, False))
    plus, minus = (overlay(GREY, [prompt]) for prompt in prompts)
    arm = slice(235, 246)
    white_column = [(image[arm, 319:321] > 240).all(axis=2).sum() for image in (plus, minus)]
    white_row = [(image[239:241, 315:326] > 240).all(axis=2).sum() for image in (plus, minus)]
    assert white_column[0] > 2 * white_column[1]
    assert white_row[0] == white_row[1] > 0


def test_a_box_is_drawn_on_its_edges():
    drawing = overlay(GREY, [Prompt(Box(100, 50, 300, 200))])
    ink = positions_of(drawing, COLOURS[0])
    assert ink.min(axis=0) == pytest.approx((100, 50), abs=1.5)
    assert ink.max(axis=0) == pytest.approx((300, 200), abs=1.5)


@pytest.mark.parametrize("far", [1e5, 1e9, 1e300, 1.7e308], ids=str)
@pytest.mark.parametrize("size", [(480, 640), (3, 5)], ids=str)
def test_boxes_and_points_far_outside_the_image_are_clipped(size, far):
    height, width = size
    image = np.full((*size, 3), 120, np.uint8)
    clicks = [Point(x, y, positive) for x, y, positive in ((far, 1, True), (-far, -far, False), (1, far, False))]
    assert np.array_equal(overlay(image, [Prompt(Box(-far, -far, far, far), tuple(clicks))]), overlay(image, []))
    near = overlay(image, [Prompt(Box(width / 4, -9.0 * height, width * 0.75, 9.0 * height))])
    assert np.array_equal(overlay(image, [Prompt(Box(width / 4, -far, width * 0.75, far))]), near)
    assert len(positions_of(near, COLOURS[0]))


def test_a_mirrored_scene_gives_a_mirrored_overlay():
    mask = ball(480, 640, 200, 150, 60)
    prompt = Prompt(Box(140, 90, 260, 210), (Point(200.5, 150.5), Point(150.5, 95.5, positive=False)))
    mirrored = Prompt(Box(380, 90, 500, 210), (Point(439.5, 150.5), Point(489.5, 95.5, positive=False)))
    original = overlay(GREY, [prompt], [mask]).astype(int)
    flipped = overlay(GREY, [mirrored], [mask[:, ::-1]])[:, ::-1].astype(int)
    is_different = np.abs(original - flipped).max(axis=2) > 40
    assert is_different.mean() < 0.001  # OpenCV's antialiasing is not exactly symmetric


def test_a_mask_changes_only_pixels_on_it():
    mask = ball(480, 640, 320, 240, 100)
    drawing = overlay(GREY, [], [mask])
    core, far = ball(480, 640, 320, 240, 90), ~ball(480, 640, 320, 240, 110)
    assert np.array_equal(drawing[far], GREY[far])
    assert (drawing[core] == (0.6 * 120 + 0.4 * np.array(COLOURS[0])).astype(np.uint8)).all()


def test_a_hole_is_outlined_too():
    ring = ball(480, 640, 320, 240, 150) & ~ball(480, 640, 320, 240, 80)
    drawing = overlay(GREY, [], [ring])
    radii = np.hypot(*(positions_of(drawing, COLOURS[0]) - (320, 240)).T)
    assert (radii < 90).any()
    assert (radii > 140).any()
    assert np.array_equal(drawing[ball(480, 640, 320, 240, 70)], GREY[ball(480, 640, 320, 240, 70)])


@pytest.mark.parametrize("masks", [[], [np.zeros((480, 640), bool)]], ids=["no objects", "an empty mask"])
def test_an_image_is_unchanged_without_a_pixel_to_draw(masks):
    assert np.array_equal(overlay(GREY, [], masks), GREY)


def test_objects_have_different_colours():
    assert len(set(COLOURS)) == len(COLOURS)
    drawing = overlay(GREY, [Prompt(Box(10 + 60 * i, 10, 50 + 60 * i, 50)) for i in range(len(COLOURS) + 1)])
    for index in range(len(COLOURS)):
        assert len(positions_of(drawing, COLOURS[index]))


@pytest.mark.parametrize(
    "caption", ["mug", "a long sentence " * 30, "la tasse bleutée", "杯子", "\n\t", "x" * 500], ids=str.__repr__
)
def test_a_caption_only_adds_a_strip_below(caption):
    drawing = overlay(GREY, [], caption=caption)
    assert np.array_equal(drawing[:480], GREY)
    assert drawing.shape[0] > 480
    assert drawing.shape[1] == 640
    assert drawing[480:, -4:].max() < 60  # the text does not run off the strip


def test_accented_letters_lose_their_accents():
    assert np.array_equal(overlay(GREY, [], caption="naïve"), overlay(GREY, [], caption="naive"))


@pytest.mark.parametrize(("tiles", "columns", "rows"), [(1, 1, 1), (5, 2, 3), (4, 4, 1), (0, 3, 1)])
def test_a_contact_sheet_has_a_cell_for_every_tile(tiles, columns, rows):
    sheet = contact_sheet([GREY] * tiles, columns, (64, 48))
    assert sheet.shape == (rows * 56 + 8, columns * 72 + 8, 3)
    assert (sheet == 120).all(axis=2).sum() == tiles * 64 * 48


def test_a_tile_keeps_its_aspect_ratio_and_is_not_enlarged():
    sheet = contact_sheet([GREY[:20, :10], GREY[:, :30]], 2, (60, 60))
    grey = (sheet == 120).all(axis=2)
    assert grey[:, :72].sum() == 20 * 10
    assert grey[:, 72:].sum() == 60 * 4
