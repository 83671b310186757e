import io
import json
import math

import numpy as np
import PIL.Image
import pytest

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.external import file_name, read_any
from sam4mllm.evaluation.pairing import evaluate_set
from sam4mllm.evaluation.scores import evaluate_file, score_files
from sam4mllm.geometry.rle import Rle
from sam4mllm.prediction.record import Prediction

RNG = np.random.default_rng(0)
HUGE = "1" * 400
IDS = ("refcoco-unc-1", "a/b c", "Ünï:*?", "..")
MASKS = {name: RNG.random((6, 9)) < 0.5 for name in IDS}
SAMPLES = [Sample(name, "p.jpg", 9, 6, "it", (Rle.from_mask(mask),)) for name, mask in MASKS.items()]


def lines(path, masks=MASKS):
    path.write_text("".join(f"{Prediction(name, (), Rle.from_mask(mask)).to_line()}\n" for name, mask in masks.items()))
    return path


def entries(path, masks=MASKS, key="sample_id", encode=Rle.to_json):
    rows = [{key: name, "segmentation": encode(Rle.from_mask(mask))} for name, mask in masks.items()]
    path.write_text(json.dumps(rows, indent=1))
    return path


def pngs(path, masks=MASKS, read_image=lambda mask: PIL.Image.fromarray(mask)):
    path.mkdir()
    for name, mask in masks.items():
        read_image(mask).save(path / file_name(name))
    return path


def runs(rle):
    found = np.flatnonzero(np.diff(rle.mask.flatten(order="F"), prepend=False))
    return {"size": list(rle.size), "counts": np.diff(np.concatenate([[0], found, [54]])).tolist()}


def palette(mask):
    read_image = PIL.Image.fromarray(mask.astype(np.uint8) * 3, mode=None).convert("P")
    read_image.putdata((mask.astype(int) * 3).ravel().tolist())
    read_image.putpalette([0, 0, 0] * 256)  # every colour is black: only the index matters
    return read_image


def coloured(mask):
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[..., 3] = 255  # opaque everywhere, which is not foreground
    pixels[mask, 2] = 1
    return PIL.Image.fromarray(pixels)


FORMS = {
    "our lines": lambda path: lines(path / "p.jsonl"),
    "COCO RLE": lambda path: entries(path / "p.json"),
    "COCO RLE by id": lambda path: entries(path / "p.json", key="id"),
    "uncompressed RLE": lambda path: entries(path / "p.json", encode=runs),
    "PNG, 1 bit": lambda path: pngs(path / "p"),
    "PNG, grey": lambda path: pngs(path / "p", read_image=lambda mask: PIL.Image.fromarray(mask.astype(np.uint8))),
    "PNG, 16 bits": lambda path: pngs(path / "p", read_image=lambda m: PIL.Image.fromarray(m.astype(np.uint16) * 256)),
    "PNG, palette": lambda path: pngs(path / "p", read_image=palette),
    "PNG, colours": lambda path: pngs(path / "p", read_image=coloured),
}


@pytest.mark.parametrize("form", FORMS)
def test_masks_of_any_format_give_the_same_counts(tmp_path, form):
    found = evaluate_file(SAMPLES, FORMS[form](tmp_path), "lavt")
    assert found.pixels.union.tolist() == found.pixels.intersection.tolist() == [int(m.sum()) for m in MASKS.values()]


@pytest.mark.parametrize("form", FORMS)
def test_unknown_boxes_have_an_undefined_box_accuracy(tmp_path, form):
    ours = lines(tmp_path / "ours.jsonl")
    found = score_files(SAMPLES, FORMS[form](tmp_path), "lavt", Bootstrap(5), ["targets"], against=ours)
    known = form == "our lines"  # in which no box was said
    numbers = [
        found.all.box_accuracy,
        found.subsets["targets"]["1"].box_accuracy,
        *found.differences["box Acc@0.5"][:1],
    ]
    assert numbers == [0, 0, 0] if known else all(map(math.isnan, numbers))


@pytest.mark.parametrize(
    "before", ["\ufeff", " " * 100, "\ufeff\r\n\t" + "\n" * 100_000], ids=["a mark", "blanks", "a mark and blanks"]
)
def test_a_list_is_recognised_after_a_byte_order_mark_and_white_space(tmp_path, before):
    path = entries(tmp_path / "p.json")
    path.write_text(before + path.read_text(), encoding="utf-8")
    assert evaluate_file(SAMPLES, path, "lavt").pixels.intersection.tolist() == [
        int(mask.sum()) for mask in MASKS.values()
    ]


@pytest.mark.parametrize("text", ["", " ", "\ufeff", "\ufeff {}"], ids=repr)
def test_a_file_without_a_list_is_not_read_as_json(tmp_path, text):
    path = tmp_path / "p.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"holds no predictions|something other than predictions"):
        evaluate_file(SAMPLES, path, "lavt")


def test_file_names_are_safe_and_no_two_ids_share_one():
    names = [file_name(name) for name in (*IDS, "a%2Fb c", "a/b%20c")]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and not set(name) & set('/\\:*?"<>| ') and name != "..png" for name in names)


def test_a_failed_sample_counts_as_an_empty_mask(tmp_path):
    path = tmp_path / "p.jsonl"
    said = [Prediction(name, (), Rle.from_mask(mask), error="no memory") for name, mask in MASKS.items()]
    path.write_text("".join(f"{one.to_line()}\n" for one in said))
    for found in (evaluate_file(SAMPLES, path, "lavt"), evaluate_set(SAMPLES, said, "lavt")):
        assert (found.failed.all(), found.pixels.prediction.tolist()) == (True, [0] * len(SAMPLES))


def test_polygons_are_rasterised_at_the_size_of_their_sample(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"id": "one", "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]}]))
    sample = Sample("one", "p.jpg", 9, 6, "it", (Rle.from_coco([[1, 1, 4, 1, 4, 3, 1, 3]], 6, 9),))
    assert score_files([sample], path, "lavt", Bootstrap(5)).all.metrics["cIoU"] == 1


def but(name, mask=None):
    """The masks without ``name``, or with its mask replaced."""
    others = {key: value for key, value in MASKS.items() if key != name}
    return others if mask is None else {**others, name: mask}


WRONG = np.ones((9, 6), dtype=bool)
MORE = {**MASKS, "more": WRONG}
OTHERS = {"coco-1": WRONG, "coco-2": WRONG}


WAYS = {
    "line": lambda folder, masks: lines(folder / "p.jsonl", masks),
    "entry": lambda folder, masks: entries(folder / "p.json", masks),
    "file": lambda folder, masks: pngs(folder / "p", masks),
}


def place_of(way, path, name, number):
    return f"{path / file_name(name)}" if way == "file" else f"{path}, {way} {number}"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("masks", "name", "number", "says"),
    [
        pytest.param(but(".."), "", 0, "1 samples have no prediction, first .. ({path})", id="missing"),
        pytest.param(
            {**but(".."), "..x": WRONG},
            "..x",
            4,
            "1 predictions match no sample, first ..x ({place})",
            id="a damaged id",
        ),
        pytest.param(MORE, "more", 5, "1 predictions match no sample, first more ({place})", id="unknown"),
        pytest.param(
            but("..", WRONG),
            "..",
            4,
            "({place}): the mask has size (h, w) = (9, 6), but its image has (6, 9)",
            id="size",
        ),
        pytest.param(
            OTHERS,
            "coco-1",
            1,
            "belong to another dataset: none of the 2 matches one of these 4 samples",
            id="another split",
        ),
        pytest.param(OTHERS, "coco-1", 1, "is coco-1 ({place}), the first sample refcoco-unc-1", id="its place"),
        pytest.param({}, "", 0, "holds no predictions: 4 samples have no prediction", id="empty"),
    ],
)
def test_predictions_must_match_the_samples_one_to_one(tmp_path, way, masks, name, number, says):
    path = WAYS[way](tmp_path, masks)
    with pytest.raises(UserError) as refusal:
        evaluate_file(SAMPLES, path, "lavt")
    assert says.format(place=place_of(way, path, name, number), path=path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("make", [lambda path: lines(path / "p.jsonl"), lambda path: entries(path / "p.json")])
def test_the_error_for_a_repeated_id_names_the_second_occurrence(tmp_path, make):
    path = make(tmp_path)
    again = path.read_text()
    path.write_text(f"{again.rstrip()[:-1]},{again.lstrip()[1:]}" if again.startswith("[") else again * 2)
    with pytest.raises(UserError, match=r"4 predictions repeat a sample, .* (line|entry) 5\)"):
        evaluate_file(SAMPLES, path, "lavt")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda line: line[:-2], "line 2: not a prediction record"),
        (lambda line: line.replace('"rle"', '"mask"'), "line 2: not a prediction record: KeyError"),
        (lambda line: line.replace('"size": [6, 9]', '"size": [6]'), "line 2: a mask must be"),
        (lambda line: line.replace('"counts": "', '"counts": "é'), "line 2): invalid run-length counts"),
        (lambda line: line.replace('"counts": "', '"counts": "1'), "line 2): the run-length counts"),
        (lambda line: line.replace('"version": 1', '"version": 2'), "line 2: a prediction of version 2"),
        (lambda line: line.replace('"prompts": []', '"prompts": [{"box": [1, 2, 0, 0]}]'), "line 2: not a prediction"),
        (lambda line: "null", "line 2: not a prediction record"),
        (
            lambda line: line.replace("[]", f'[{{"box": [1, 2, 3, {HUGE}]}}]', 1),
            "line 2: not a prediction record: Overflow",
        ),
        (lambda line: "[" * 200_000, "line 2: not a prediction record: RecursionError"),
    ],
)
def test_a_corrupt_line_is_named_in_the_error(tmp_path, damage, says):
    path = lines(tmp_path / "p.jsonl")
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], damage(rows[1]), *rows[2:]]) + "\n")
    with pytest.raises(UserError) as refusal:
        evaluate_file(SAMPLES, path, "lavt")
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{", "as JSON"),
        ("[" * 200_000, "as JSON"),
        (f'[{{"id": "refcoco-unc-1", "segmentation": [[1, 1, 4, 1, 4, {HUGE}]]}}]', "entry 1: a polygon"),
        (f'[{{"id": "refcoco-unc-1", "segmentation": {{"size": [2, 2], "counts": [{HUGE}]}}}}]', "entry 1: the runs"),
        (f'[{{"id": "refcoco-unc-1", "segmentation": {{"size": [2, {HUGE}], "counts": [3]}}}}]', "entry 1: a mask"),
        (
            f'[{{"id": "refcoco-unc-1", "segmentation": {{"size": [2, {HUGE}], "counts": "1"}}}}]',
            "entry 1): the mask has size",
        ),
        ("[1]", "entry 1: an entry needs sample_id and segmentation, got 1"),
        ('[{"id": "a"}]', "entry 1: an entry needs"),
        ('[{"id": "refcoco-unc-1", "segmentation": 3}]', "entry 1: a mask must be"),
        ('[{"id": "x", "segmentation": [[1, 1, 4, 1, 4, 3]]}]', "entry 1: no sample has the id x"),
        ('[{"id": "x", "segmentation": {"size": [2, 2], "counts": [3]}}]', "entry 1: the runs of a mask of 2 x 2"),
    ],
)
def test_an_invalid_entry_is_named_in_the_error(tmp_path, text, says):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(UserError) as refusal:
        evaluate_file(SAMPLES, tmp_path / "p.json", "lavt")
    assert says in str(refusal.value)


def as_jpeg(data):
    buffer = io.BytesIO()
    PIL.Image.open(io.BytesIO(data)).convert("L").save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: b"text", lambda data: b"", as_jpeg])
def test_an_invalid_png_is_named_in_the_error(tmp_path, damage):
    folder = pngs(tmp_path / "p")
    file = folder / file_name("a/b c")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=r"cannot read .*a%2Fb%20c\.png as a PNG"):
        evaluate_file(SAMPLES, folder, "lavt")


def test_masks_are_read_lazily(tmp_path):
    found = read_any(lines(tmp_path / "p.jsonl"), SAMPLES)
    assert next(found.outcomes).id == IDS[0]
    assert [one.id for one in found.outcomes] == list(IDS[1:])
