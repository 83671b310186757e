import json

import cv2
import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt, iou
from sam4mllm.geometry.rle import Rle
from sam4mllm.segmenters import Scene, Segmenter
from sam4mllm.segmenters.box import fill
from sam4mllm.segmenters.grabcut import GrabCutSegmenter
from sam4mllm.targets.search import Search, best, candidates


def disc(height=120, width=160, x=80.0, y=60.0, radius=30.0):
    """A red disc on noisy grey, and its mask."""
    rows, columns = np.indices((height, width)) + 0.5
    mask = np.hypot(columns - x, rows - y) < radius
    image = np.random.default_rng(0).integers(90, 130, (height, width, 3), dtype=np.uint8)
    image[mask] = (200, 40, 30)
    return image, mask


def cut(image, box, *points, **options):
    [scored] = GrabCutSegmenter(**options).embed(image).segment([Prompt(box, points)])
    return scored


def test_the_segmenter_satisfies_the_protocol():
    assert isinstance(GrabCutSegmenter(), Segmenter)
    assert isinstance(GrabCutSegmenter().embed(disc()[0]), Scene)


@pytest.mark.parametrize("size", [48, 192])
@pytest.mark.parametrize(("x", "y"), [(80.0, 60.0), (30.0, 35.0), (150.0, 110.0)])
def test_a_disc_is_segmented_in_its_box(x, y, size):
    image, mask = disc(x=x, y=y)
    result = cut(image, Box(x - 32, y - 32, x + 32, y + 32).clip(160, 120), size=size)
    assert iou(result.mask, mask) > (0.9 if size == 48 else 0.97)
    assert result.score > 0.8


def test_large_crops_are_reduced_and_still_segmented():
    image, mask = disc()
    large = cv2.resize(image, (1600, 1200), interpolation=cv2.INTER_NEAREST)
    ground_truth = cv2.resize(mask.astype(np.uint8), (1600, 1200), interpolation=cv2.INTER_NEAREST).astype(bool)
    assert iou(cut(large, Box(480, 280, 1120, 920)).mask, ground_truth) > 0.95


def two_halves():
    """An object of two colours, red and blue, on grey."""
    image, left = disc(x=60.0, radius=20.0)
    right = disc(x=100.0, radius=20.0)[1]
    image[right] = (30, 40, 200)
    return image, left, right


def test_a_positive_point_adds_its_colour_and_a_negative_one_removes_it():
    image, left, right = two_halves()
    box, on_left, on_right = Box(38, 38, 122, 82), (60.0, 60.0), (100.0, 60.0)
    both = cut(image, box, Point(*on_left), Point(*on_right)).mask
    only_left = cut(image, box, Point(*on_left), Point(*on_right, positive=False)).mask
    only_right = cut(image, box, Point(*on_left, positive=False), Point(*on_right)).mask
    assert iou(both, left | right) > 0.9
    assert iou(only_left, left) > 0.9
    assert iou(only_right, right) > 0.9


def test_points_determine_the_mask_and_negative_ones_win():
    image, _ = disc()
    for clicks in ([Point(80.5, 60.5, positive=False)], [Point(80.5, 60.5), Point(80.5, 60.5, positive=False)]):
        assert not cut(image, Box(48, 28, 112, 92), *clicks).mask[60, 80]
    assert cut(image, Box(48, 28, 112, 92), Point(50.5, 30.5)).mask[30, 50]


def test_a_positive_point_outside_the_box_is_not_dropped():
    image, _ = disc()
    result = cut(image, Box(48, 28, 112, 92), Point(140.5, 100.5))
    assert result.mask[100, 140]
    assert not result.mask[100:, :130].any()


def test_the_mask_leaves_the_box_only_around_points():
    image, _ = disc()
    box = Box(60.3, 40.7, 90.2, 70.4)
    assert not (cut(image, box, Point(75.5, 55.5)).mask & ~fill(box, 120, 160)).any()


def test_a_flat_image_gives_the_interior_of_the_box():
    image = np.full((60, 80, 3), 128, dtype=np.uint8)
    box = Box(10, 10, 50, 40)
    assert np.array_equal(cut(image, box).mask, fill(box, 60, 80))


def test_a_box_over_the_whole_picture_is_filled():
    image, _ = disc()
    assert cut(image, Box(0, 0, 160, 120)).mask.all()


BOXES = [
    pytest.param(lambda w, h: Box(0, 0, w, h), id="whole"),
    pytest.param(lambda w, h: Box(-5, -5, w + 9, h + 9), id="beyond"),
    pytest.param(lambda w, h: Box(w, h, w, h), id="corner without extent"),
    pytest.param(lambda w, h: Box(w / 2, h / 2, w / 2, h / 2), id="point"),
    pytest.param(lambda w, h: Box(0, h / 2, w, h / 2), id="line"),
    pytest.param(lambda w, h: Box(-9, -9, -3, -3), id="off the picture"),
    pytest.param(lambda w, h: Box(0, 0, w / 2, h / 2), id="at the border"),
]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (5, 3), (1, 300), (60, 80)])
@pytest.mark.parametrize("noise", [0, 255])
def test_any_box_on_any_picture_gives_a_mask(box, height, width, noise):
    image = np.random.default_rng(0).integers(0, noise + 1, (height, width, 3), dtype=np.uint8)
    for points in ((), (Point(width / 2, height / 2),), (Point(width * 3.0, -height * 3.0),)):
        result = cut(image, box(width, height), *points)
        assert result.mask.shape == (height, width)
        assert result.mask.any()
        assert 0 <= result.score <= 1
    cut(image, box(width, height), Point(width / 2, height / 2, positive=False))


def test_the_same_input_gives_the_same_masks():
    image = np.random.default_rng(1).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    scene = GrabCutSegmenter().embed(image)
    prompts = [Prompt(Box(5, 5, 60, 70)), Prompt(Box(20, 20, 88, 88), (Point(40.5, 40.5),))]
    first, second = scene.segment(prompts)
    cv2.setRNGSeed(99)
    again_second, again_first = scene.segment(prompts[::-1])
    assert np.array_equal(first.mask, again_first.mask)
    assert np.array_equal(second.mask, again_second.mask)


@pytest.mark.parametrize("options", [{"size": 0}, {"iterations": 0}])
def test_invalid_options_are_refused(options):
    with pytest.raises(UserError, match="1 or more"):
        GrabCutSegmenter(**options)


def test_points_chosen_by_the_mask_help_on_real_photos(real_data):
    """The cIoU of the box alone and with the best of 4 random sets of points, on twelve COCO masks."""
    instances = json.loads((real_data / "coco_real" / "instances.json").read_text())
    images = {image["id"]: image for image in instances["images"]}
    large = [annotation for annotation in instances["annotations"] if annotation["area"] >= 32 * 32]
    rng, sums = np.random.default_rng(0), np.zeros((2, 2))
    for annotation in large[:: len(large) // 12][:12]:
        photo = images[annotation["image_id"]]
        image = cv2.cvtColor(cv2.imread(str(real_data / "coco_real/images" / photo["file_name"])), cv2.COLOR_BGR2RGB)
        mask = Rle.from_coco(annotation["segmentation"], photo["height"], photo["width"]).mask
        scene, sets = GrabCutSegmenter().embed(image), candidates(mask, Search(candidates=4), rng)
        [(chosen, _)] = best(scene, mask, sets)
        for row, scored in enumerate(scene.segment([Prompt(chosen.box), chosen])):
            sums[row] += (scored.mask & mask).sum(), (scored.mask | mask).sum()
    lock_folder, clicked = sums[:, 0] / sums[:, 1]
    assert clicked > lock_folder + 0.05
    assert clicked > 0.65
