"""Each reader with each value of a file replaced by odd ones: the file is read, or refused in one line."""

import copy
from collections.abc import Iterator
from typing import Any

import PIL.Image
import pytest

from sam4mllm.data_prep.convert import convert
from sam4mllm.data_prep.datasets import READERS
from sam4mllm.errors import UserError
from tests.data_prep import raw

GONE = object()
ODD = [None, True, -1, 2**40, 10**400, 1e300, float("nan"), "", "../x", "é\n", [], [[]], {}, {"a": []}, [None, "x", 5]]
ODD += ["x\ud800y", "x" * 300, "a\0b", GONE]
HUGE = 10**5000  # JSON cannot hold it
SHAPES = [{"label": "t", "shape_type": "polygon", "group_id": 1, "points": [[1, 1], [4, 1], [4, 3]]}]
TALK = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "!"}]
INSTANCES = {
    "images": [{"id": number, "file_name": raw.file(number), "width": 6, "height": 4} for number in (5, 6)],
    "annotations": [{"id": 7, "image_id": 5, "category_id": 1, "iscrowd": 0, "segmentation": [[1, 1, 4, 1, 4, 3]]}],
    "categories": [{"id": 1, "name": "cat"}],
}
SENTENCE = {"sent_id": 1, "sent": "a cat", "raw": "A cat", "tokens": ["a", "cat"]}
REFS = [{"ref_id": 1, "ann_id": 7, "image_id": 5, "split": "train", "sentences": [SENTENCE]}]

# the files of each data set; values of the first file are replaced
FILES: dict[str, dict[str, Any]] = {
    "refcoco": {"refcoco/refs(unc).p": REFS, "refcoco/instances.json": INSTANCES},
    "refcoco+": {"refcoco+/instances.json": INSTANCES, "refcoco+/refs(unc).p": REFS},
    "grefcoco": {"grefcoco/grefs(unc).json": [{**REFS[0], "ann_id": [7]}], "grefcoco/instances.json": INSTANCES},
    "refcocog": {
        "refcocog/instances.json": {**INSTANCES, "annotations": []},
        "refcocog/refs(umd).p": [{**REFS[0], "ann_id": -1}],
    },
    "reasonseg": {"train/a.json": {"text": ["x"], "is_sentence": True, "shapes": SHAPES}},
    "llava_instruct": {"llava_instruct_150k.json": [{"id": "1", "image": "000000000005.jpg", "conversations": TALK}]},
    "coco": {"instances.json": INSTANCES},
    "labelme": {"a.json": {"imagePath": "a.jpg", "imageHeight": 4, "imageWidth": 6, "shapes": SHAPES}},
}


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path to every value inside a value, itself first."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def replaced(value: Any, path: tuple, odd: Any) -> Any:
    if not path:
        return None if odd is GONE else odd
    changed = copy.deepcopy(value)
    at = changed
    for key in path[:-1]:
        at = at[key]
    if odd is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = odd
    return changed


@pytest.mark.parametrize("name", FILES)
def test_an_odd_value_anywhere_is_read_or_is_one_line(tmp_path, name):
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train").mkdir()
    for image in ("train/a.jpg", "train2017/000000000005.jpg"):
        PIL.Image.new("RGB", (6, 4)).save(tmp_path / image)
    raw.write_files(tmp_path, FILES[name])
    assert READERS[name](tmp_path)
    first, content = next(iter(FILES[name].items()))
    refused = 0
    for path in places(content):
        for odd in [*ODD, HUGE] if first.endswith(".p") else ODD:
            raw.write_files(tmp_path, {first: replaced(content, path, odd)})
            try:
                convert(READERS[name](tmp_path), tmp_path, tmp_path / "out" / name, True, False, str)
            except UserError as error:
                refused += 1
                assert "\n" not in str(error), (path, odd)  # noqa: PT017  what does not raise is right too
    assert refused > 10
