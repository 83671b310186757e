import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sam4mllm.data.conversations import read_conversations
from sam4mllm.data.samples import read_samples
from sam4mllm.data_prep.formats.points import CUT
from sam4mllm.data_prep.readers.reasonseg import IGNORE, TARGET, THIN, paint_labels, prepare
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box
from sam4mllm.geometry.rle import Rle
from sam4mllm.language.messages import Turn
from tests.data_prep import raw
from tests.data_prep.errors import one_line_error
from tests.running import invoke


def shape(label: str, x0: float, y0: float, x1: float, y1: float) -> dict:
    return {"label": label, "shape_type": "polygon", "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}


def write(folder: Path, name: str = "a", size=(9, 6), **change) -> Path:
    """An image and its annotation in the folder of a split."""
    folder.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size).save(folder / f"{name}.jpg")
    document = {"text": [" The Wet part ", "two"], "is_sentence": False, "shapes": [shape("target", 1, 1, 4, 4)]}
    (folder / f"{name}.json").write_text(json.dumps({**document, **change}))
    return folder


@pytest.mark.parametrize(
    ("split", "sentence", "phrases"),
    [
        ("val", False, ["The Wet part"]),
        ("val", True, ["The Wet part"]),
        ("test", False, ["The Wet part"]),
        ("train", False, [" the wet part ", "two"]),
        ("train", True, [" The Wet part ", "two"]),
    ],
)
def test_evaluation_uses_the_first_text_and_training_uses_all(tmp_path, split, sentence, phrases):
    write(tmp_path / "reason_seg/ReasonSeg" / split, is_sentence=sentence)
    samples = prepare(tmp_path).splits[split]
    assert [sample.phrase for sample in samples] == phrases
    assert [sample.raw for sample in samples] == [" The Wet part ", "two"][: len(phrases)]
    assert {sample.kind for sample in samples} == {"sentence" if sentence else "phrase"}
    assert (samples[0].id, samples[0].image) == (f"reasonseg-{split}-a-0", f"{split}/a.jpg")
    assert samples[0].ground_truth.box == Box(1, 1, 5, 5)  # borders count: 4 is a pixel, not an edge


SMALL, LARGE = (2, 2, 3, 3), (1, 1, 5, 4)


@pytest.mark.parametrize(
    ("labels", "at_small", "at_large"),
    [
        (["target", "ignore"], TARGET, IGNORE),
        (["ignore", "target"], IGNORE, TARGET),
        (["target", "IGNORE this"], TARGET, IGNORE),
        (["flag", "target"], TARGET, TARGET),
        (["Flag", "ignore"], IGNORE, IGNORE),
        (["red flag", "ignore"], TARGET, IGNORE),
    ],
)
@pytest.mark.parametrize("reverse", [False, True], ids=["as is", "reversed"])
def test_the_largest_shape_is_painted_first(labels, at_small, at_large, reverse):
    shapes = [shape(labels[0], *SMALL), shape(labels[1], *LARGE)]
    painted = paint_labels(shapes[::-1] if reverse else shapes, 6, 9)
    assert (painted[2, 2], painted[1, 1], painted[0, 0]) == (at_small, at_large, 0)


def test_corners_are_cut_towards_zero_and_borders_count():
    painted = paint_labels([shape("target", 0.9, 0.9, 2.9, 1.9)], 4, 5)
    assert np.argwhere(painted).tolist() == [[row, column] for row in (0, 1) for column in (0, 1, 2)]


@pytest.mark.parametrize(
    ("shapes", "masks", "ignored"),
    [
        pytest.param([shape("target", 1, 1, 4, 4)], 1, False, id="target"),
        pytest.param([shape("ignore", 1, 1, 4, 4)], 0, True, id="ignore alone"),
        pytest.param([shape("flag", 1, 1, 4, 4)], 0, False, id="flag alone"),
        pytest.param([shape("target", 90, 90, 95, 95)], 0, False, id="outside the image"),
        pytest.param([], 0, False, id="nothing"),
    ],
)
def test_images_without_a_target_are_counted(tmp_path, shapes, masks, ignored):
    write(tmp_path / "val", shapes=shapes)
    dataset = prepare(tmp_path)
    [sample] = dataset.splits["val"]
    assert (len(sample.masks), sample.ignore is not None) == (masks, ignored)
    assert dataset.noticed["images without a target"] == ([] if masks else ["val/a"])


@pytest.mark.parametrize(
    ("shapes", "cut", "thin"),
    [
        pytest.param([shape("target", 1, 1, 4, 4)], [], [], id="inside"),
        pytest.param([shape("target", -1, -1, 10, 7)], [], [], id="a pixel off"),
        pytest.param([shape("target", 1, 1, 10.5, 4)], ["val/a: target"], [], id="more than a pixel off"),
        pytest.param([shape("ignore", 100, 100, 300, 200)], ["val/a: ignore"], [], id="far off"),
        pytest.param([shape("flag", 1, 1, 99, 4)], [], [], id="what is not painted"),
        pytest.param([{"label": "target", "points": [[1, 1], [4, 4]]}], [], ["val/a: target"], id="a line"),
        pytest.param([{"label": "target", "points": [[1, 1]]}], [], ["val/a: target"], id="a point"),
    ],
)
def test_shapes_that_leave_the_image_or_are_no_areas_are_painted_and_counted(tmp_path, shapes, cut, thin):
    dataset = prepare(write(tmp_path / "val", shapes=shapes).parent)
    assert (dataset.noticed[CUT], dataset.noticed[THIN]) == (cut, thin)


def test_annotations_without_a_text_are_counted(tmp_path):
    dataset = prepare(write(tmp_path / "val", text=[]).parent)
    assert dataset.splits == {"val": []}
    assert dataset.noticed["annotations without a text"] == ["val/a"]


def test_images_and_annotations_without_a_partner_are_counted(tmp_path):
    (write(tmp_path / "val", "a") / "a.jpg").unlink()
    (write(tmp_path / "val", "b") / "b.json").unlink()
    write(tmp_path / "val", "c")
    dataset = prepare(tmp_path)
    assert [sample.image for sample in dataset.splits["val"]] == ["val/c.jpg"]
    assert dataset.noticed["annotations without an image, left out"] == ["val/a"]
    assert dataset.noticed["images without an annotation, left out"] == ["val/b"]


def explain(root: Path, **change) -> None:
    item = {"image": "a.jpg", "query": "what is wet?", "outputs": "The towel, for it drips.", **change}
    raw.write_files(root, {"explanatory/train.json": [item, {**item, "image": "gone.jpg"}]})


def test_explanations_are_conversations(tmp_path):
    write(tmp_path / "train")
    explain(tmp_path)
    dataset = prepare(tmp_path)
    [talk] = dataset.conversations["train"]
    assert talk.turns == (Turn("user", "what is wet?"), Turn("assistant", "The towel, for it drips."))
    assert (talk.id, talk.image, talk.width, talk.height) == ("reasonseg-explanatory-0", "train/a.jpg", 9, 6)
    assert dataset.noticed["explanations without an image, left out"] == ["train/gone.jpg"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"shapes": [{"label": "target"}]}, r"val/a\.json is not in the format of ReasonSeg: missing", id="bare"
        ),
        pytest.param(
            {"shapes": [{"label": 5, "points": []}]},
            "not in the format of ReasonSeg: TypeError: expected text, got 5",
            id="label",
        ),
        pytest.param({"shapes": 5}, "not in the format of ReasonSeg: TypeError", id="shapes"),
        pytest.param(
            {"shapes": [{"label": "t", "points": [1, 2]}]}, r"a\.json: a shape is a list of points", id="flat"
        ),
        pytest.param({"shapes": [shape("t", 0, 0, 1e9, 5)]}, "within 32768 pixels", id="far"),
        pytest.param({"shapes": [shape("t", 0, 0, float("nan"), 5)]}, "within 32768 pixels", id="not a number"),
        pytest.param({"shapes": [shape("t", 0, 0, 10**400, 5)]}, "1,329 bits", id="a number of 400 digits"),
        pytest.param({"shapes": [shape("t", "0", "0", "5", "5")]}, "a list of points x, y", id="words"),
        pytest.param({"shapes": [shape("t", True, 0, 5, 5)]}, "a list of points x, y", id="a yes"),
        pytest.param({"text": "the wet part"}, r"a\.json: .*text a list, got .*'the wet part'", id="one text"),
        pytest.param({"is_sentence": "false"}, "is_sentence must be true or false .*, got 'false'", id="a word for no"),
        pytest.param({"is_sentence": 0}, "is_sentence must be true or false .*, got 0", id="a number for no"),
    ],
)
def test_annotations_of_another_form_are_one_line_that_names_the_file(tmp_path, change, message):
    write(tmp_path / "val", **change)
    with one_line_error(message):
        prepare(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"image": "../../secret.jpg"}, "below the image root, got 'train/../../secret.jpg'", id="leaving"),
        pytest.param({"query": 5}, "expected text, got 5", id="a number"),
    ],
)
def test_explanations_of_another_form_are_one_line(tmp_path, change, message):
    write(tmp_path / "train")
    explain(tmp_path, **change)
    with pytest.raises(UserError, match=message):
        prepare(tmp_path)


def test_a_root_without_the_data_set_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no ReasonSeg below .*: expected one of train, val, test .* in"):
        prepare(tmp_path)


def test_the_command_writes_samples_and_conversations_in_one_folder(tmp_path):
    write(tmp_path / "raw" / "train")
    explain(tmp_path / "raw")
    result = invoke("data", "reasonseg", "--root", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--partial")
    assert result.exit_code == 0, result.output
    assert "train: 1 conversations about 1 images" in result.output
    assert len(read_samples(tmp_path / "out" / "train")) == 2
    talks = read_conversations(tmp_path / "out" / "train")
    assert talks.path(talks.conversations[0]).is_file()


def test_masks_are_those_of_the_official_reader_pixel_by_pixel(real_data):
    expected = json.loads((real_data / "reasonseg_format" / "expected.json").read_text())
    dataset = prepare(real_data / "reasonseg_format")
    assert len(dataset.splits["val"]) == len(expected) == 10
    for sample in dataset.splits["val"]:
        answer = expected[Path(sample.image).stem]
        assert np.array_equal(sample.ground_truth.mask, Rle.from_json(answer["target"]).mask)
        ignored = sample.ignore or Rle.empty(sample.height, sample.width)
        assert np.array_equal(ignored.mask, Rle.from_json(answer["ignore"]).mask)
        assert (sample.phrase, sample.kind == "sentence") == (answer["text"], answer["is_sentence"])
