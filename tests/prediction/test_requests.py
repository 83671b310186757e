import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.prediction.requests import combine, parse_request, parse_user_prompts, read_pairs


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two 20 x 10 images and files that are not images."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("b.png", "a.jpg"):
        PIL.Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(photos / name)
    (photos / "notes.txt").write_text("no picture")
    return photos


def image_phrase_pairs(request) -> list[tuple[str, str]]:
    return [(pair.image.name, pair.phrase) for pair in request.pairs]


def test_every_phrase_is_combined_with_every_image(folder):
    assert image_phrase_pairs(parse_request([folder], ["cup", "dog"])) == [
        ("a.jpg", "cup"),
        ("a.jpg", "dog"),
        ("b.png", "cup"),
        ("b.png", "dog"),
    ]


def test_a_repeated_image_is_used_once(folder):
    assert image_phrase_pairs(parse_request([folder / "b.png", folder], ["cup"])) == [
        ("b.png", "cup"),
        ("a.jpg", "cup"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "image,phrase\nb.png,a cup\na.jpg,the dog\n"),
        ("p.csv", "phrase,split,image\r\na cup,val,b.png\r\nthe dog,val,a.jpg\r\n"),
        ("p.CSV", "\ufeffimage,phrase\nb.png,a cup\n\na.jpg,the dog"),
        ("p.jsonl", '{"image": "b.png", "phrase": "a cup", "id": 7}\n\n{"image": "a.jpg", "phrase": "the dog"}\n'),
    ],
    ids=["csv", "other columns and line ends", "mark and blank line", "json lines"],
)
@pytest.mark.parametrize("where", ["beside the pictures", "elsewhere"])
def test_pairs_are_read_from_a_file(folder, tmp_path, name, text, where):
    file = (folder if where == "beside the pictures" else tmp_path) / name
    file.write_bytes(text.encode())
    pictures = [] if where == "beside the pictures" else [folder]
    assert image_phrase_pairs(parse_request(pictures, file=file)) == [("b.png", "a cup"), ("a.jpg", "the dog")]


def test_a_phrase_may_contain_commas_quotes_and_line_ends(folder):
    (folder / "p.csv").write_text('image,phrase\na.jpg,"the ""red"" cup,\nleft"\n')
    (folder / "p.jsonl").write_text(json.dumps({"image": "a.jpg", "phrase": "a\u2028b"}, ensure_ascii=False))
    assert read_pairs(folder / "p.csv")[0].phrase == 'the "red" cup,\nleft'
    assert read_pairs(folder / "p.jsonl")[0].phrase == "a\u2028b"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("p.csv", b"image,phrase\na.jpg,ok\na.jpg, \n", "line 3: the phrase for .* is empty"),
        ("p.csv", b"image,phrase\nc.jpg,ok\n", "line 2: no such file"),
        ("p.csv", b"image,phrase\na.jpg\n", "line 2: .*phrase is missing"),
        ("p.csv", b"a.jpg,cup\na.jpg,dog\n", "line 2: .*image is missing"),
        ("p.csv", b"image,phrase\n", "contains no pairs"),
        ("p.csv", b"", "contains no pairs"),
        ("p.csv", b"image,phrase\na.jpg,\xff\n", "not UTF-8"),
        ("p.csv", b"image,phrase\na.jpg," + b"x" * 200_000, "line 2: field larger"),
        ("p.jsonl", b'{"image": "a.jpg", "phrase": "cup"}\n{"image":', "line 2: not JSON"),
        ("p.jsonl", b'["a.jpg", "cup"]', "line 1: a pair must be an object"),
        ("p.jsonl", b'{"image": "a.jpg", "phrase": 7}', "line 1: .*phrase is missing"),
        ("p.txt", b"a.jpg cup", r"\.csv or \.jsonl"),
        ("missing.csv", None, "cannot read .*missing.csv"),
    ],
)
def test_an_invalid_file_of_pairs_is_an_error_with_file_and_line(folder, name, data, says):
    if data is not None:
        (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=says) as refusal:
        parse_request(file=folder / name)
    assert "\n" not in str(refusal.value)


def test_arguments_that_cannot_be_combined_are_refused(folder):
    (folder / "p.csv").write_text("image,phrase\na.jpg,cup\n")
    picture = folder / "a.jpg"
    for how in [
        {},
        {"paths": [picture]},
        {"phrases": ["cup"]},
        {"phrases": ["cup"], "file": folder / "p.csv"},
        {"paths": [picture], "file": folder / "p.csv"},
        {"paths": [folder, folder], "file": folder / "p.csv"},
        {"paths": [folder], "boxes": ["0,0,5,5"]},
        {"paths": [picture, picture], "boxes": ["0,0,5,5"]},
        {"paths": [picture], "phrases": ["a", "b"], "boxes": ["0,0,5,5"]},
        {"paths": [picture], "file": folder / "p.csv", "boxes": ["0,0,5,5"]},
        {"boxes": ["0,0,5,5"]},
        {"paths": [picture], "clicks": ["1,1,-"]},
    ]:
        with pytest.raises(UserError):
            parse_request(**how)


@pytest.mark.parametrize("phrases", [[""], ["cup", " "]])
def test_an_empty_phrase_is_refused(folder, phrases):
    with pytest.raises(UserError, match=r"the phrase for .* is empty"):
        parse_request([folder], phrases)


def test_an_unreadable_image_is_refused_before_any_is_answered(folder):
    with pytest.raises(UserError, match="no such file"):
        parse_request([folder, folder / "c.jpg"], ["cup"])
    with pytest.raises(UserError, match=r"notes\.txt is not an image"):
        parse_request([folder, folder / "notes.txt"], ["cup"])


def names(*pairs: tuple[str, str]) -> list[str]:
    return [pair.name for image, phrase in pairs for pair in combine([Path(image)], [phrase])]


@pytest.mark.parametrize(
    ("image", "phrase", "name"),
    [
        ("photos/kitchen.jpg", "the mug", "kitchen-the-mug"),
        ("IMG 0001 (2).JPG", "Man, in RED!", "img-0001-2-man-in-red"),
        ("a.png", "../../etc/passwd", "a-etc-passwd"),
        ("a.png", "la tasse bleutée", "a-la-tasse-bleutee"),
        ("照片.png", "杯子", "照片-杯子"),
        ("a.png", "красная чашка", "a-красная-чашка"),
        ("🦊.png", "🦊!", "x-x"),
        ("a.png", "杯" * 300, "a-" + "杯" * 30),
        ("a.png", "x" * 300, "a-" + "x" * 60),
    ],
)
def test_file_names_are_safe(image, phrase, name):
    assert names((image, phrase)) == [name]


def test_file_names_are_unique_and_reproducible():
    pictures = [Path("a/k.jpg"), Path("b/k.png")]
    phrases = ["mug", "MUG!", "mug 2", "杯", "碗"]
    pairs = combine(pictures, phrases)
    assert len({pair.name for pair in pairs}) == 10
    assert [pair.name for pair in pairs[:5]] == ["k-mug", "k-mug-2", "k-mug-2-2", "k-杯", "k-碗"]
    assert pairs == combine(pictures, phrases)


def test_one_box_gets_all_clicks_and_is_clipped_to_the_image():
    prompts = parse_user_prompts(["-5,1, 15.5,99"], ["3.5,4.5,+", "18,9,-"], 20, 10)
    assert prompts == (Prompt(Box(0, 1, 15.5, 10), (Point(3.5, 4.5), Point(18, 9, positive=False))),)


def test_without_a_box_all_clicks_belong_to_one_object():
    points = (Point(3.5, 4.5), Point(18, 9, positive=False))
    assert parse_user_prompts([], ["3.5,4.5,+", "18,9,-"], 20, 10) == (Prompt(None, points),)


def test_a_click_belongs_to_the_smallest_box_that_contains_it():
    prompts = parse_user_prompts(["0,0,20,10", "2,2,6,6", "6,2,9,9"], ["3,3,+", "6,3,-", "1,1,+"], 20, 10)
    assert [len(prompt.points) for prompt in prompts] == [1, 1, 1]
    assert [prompt.points[0].x for prompt in prompts] == [1, 3, 6]


@pytest.mark.parametrize(
    ("boxes", "clicks", "says"),
    [
        (["1,2,3"], [], "--box must be x0,y0,x1,y1"),
        (["1,2,3,4,5"], [], "--box must be"),
        (["a,b,c,d"], [], "--box must be"),
        (["1,2,nan,4"], [], "--box must be"),
        (["5,5,1,1"], [], "x0 <= x1"),
        (["30,0,40,10"], [], "does not overlap the image of 20 x 10"),
        (["5,5,5,9"], [], "does not overlap"),
        ([], ["1,1,-"], "--click x,y,- needs a --box"),
        (["0,0,5,5"], ["1,1"], "--click must be"),
        (["0,0,5,5"], ["1,1,1"], "--click must be"),
        (["0,0,5,5"], ["1,inf,+"], "--click must be"),
        (["0,0,5,5"], ["1,1,+,-"], "--click must be"),
        (["0,0,5,5"], ["20,1,+"], "is outside the image"),
        (["0,0,5,5", "9,9,10,10"], ["7,7,+"], "is in none of the 2 boxes"),
    ],
)
def test_invalid_boxes_and_clicks_are_refused(boxes, clicks, says):
    with pytest.raises(UserError, match=says):
        parse_user_prompts(boxes, clicks, 20, 10)


def test_with_a_box_the_phrase_is_a_caption(folder):
    request = parse_request([folder / "a.jpg"], ["the cup"], boxes=["0,0,5,5"])
    assert request.by_hand == (Prompt(Box(0, 0, 5, 5)),)
    assert [(pair.phrase, pair.name) for pair in request.pairs] == [("the cup", "a-the-cup")]
    assert parse_request([folder / "a.jpg"], boxes=["0,0,5,5"]).pairs[0].name == "a-by-hand"
