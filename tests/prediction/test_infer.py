import errno
import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sam4mllm.config import PipelineConfig
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import read_image
from sam4mllm.prediction import infer as module
from sam4mllm.prediction.infer import infer
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.requests import parse_request

BY_HAND = PipelineConfig(segmenter="box")
SAID = {
    "a-cup": ["[200,300,600,900]"],
    "a-dog": ["none"],
    "b-cup": ["[0,0,999,500] and [0,500,999,999]"],
    "b-dog": ["The dog is shy."],
}


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(["a.png", "b.png"]):
        pixels = np.random.default_rng(seed).integers(0, 256, (10, 20, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def recipe(tmp_path) -> PipelineConfig:
    file = tmp_path / "said.jsonl"
    file.write_text("".join(json.dumps({"id": key, "replies": replies}) + "\n" for key, replies in SAID.items()))
    return PipelineConfig(segmenter="box", mllm=f"replay:{file}", prompter="box")


def test_each_pair_gets_an_overlay_a_mask_and_a_record(photos, recipe, tmp_path):
    out = tmp_path / "new" / "out"
    records = list(infer(recipe, parse_request([photos], ["cup", "dog"]), out, 3))
    assert [record["id"] for record in records] == list(SAID)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}{suffix}" for name in SAID for suffix in (".json", ".mask.png", ".overlay.png")
    )
    for record in records:
        assert json.loads((out / f"{record['id']}.json").read_text()) == record
        mask = Rle.from_json(record["rle"]).mask
        with PIL.Image.open(out / f"{record['id']}.mask.png") as picture:
            assert np.array_equal(np.asarray(picture), mask * 255)
        assert mask.shape == (record["height"], record["width"]) == (10, 20)
        assert read_image(out / f"{record['id']}.overlay.png").shape[1] == 480


def test_a_record_describes_the_answer(photos, recipe):
    cup, dog, both, shy = infer(recipe, parse_request([photos], ["cup", "dog"]), None, 4)
    assert (cup["image"], cup["phrase"]) == (str(photos / "a.png"), "cup")
    assert cup["replies"] == SAID["a-cup"]
    assert cup["prompts"] == [{"box": [4.0, 3.0, 12.0, 9.0], "points": []}]
    assert cup["rle"] == cup["parts"][0]["rle"]
    assert Rle.from_json(cup["rle"]).box == Box(4, 3, 12, 9)
    assert (dog["prompts"], dog["readable"], Rle.from_json(dog["rle"]).area) == ([], True, 0)
    assert len(both["parts"]) == 2
    assert Rle.from_json(both["rle"]).area == sum(Rle.from_json(part["rle"]).area for part in both["parts"])
    assert (shy["prompts"], shy["readable"]) == ([], False)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_batch_size_changes_nothing(photos, recipe, batch_size):
    request = parse_request([photos], ["cup", "dog"])
    assert list(infer(recipe, request, None, batch_size)) == list(infer(recipe, request, None, 3))


def test_a_second_run_ends_with_the_same_bytes(photos, recipe, tmp_path):
    for _ in infer(recipe, parse_request([photos], ["cup"]), tmp_path / "out", 1):
        pass
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for _ in infer(recipe, parse_request([photos], ["cup"]), tmp_path / "out", 2):
        pass
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_records_can_be_replayed(photos, recipe, tmp_path):
    request = parse_request([photos], ["cup", "dog"])
    records = list(infer(recipe, request, None, 2))
    file = tmp_path / "again.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    again = PipelineConfig(segmenter="box", mllm=f"replay:{file}", prompter="box")
    assert list(infer(again, request, None, 2)) == records


def test_records_are_predictions(photos, recipe, tmp_path):
    records = list(infer(recipe, parse_request([photos], ["cup", "dog"]), None, 2))
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    read = read_predictions(tmp_path / "p.jsonl")
    assert [prediction.id for prediction in read] == list(SAID)
    assert read[0].prompts == (Prompt(Box(4, 3, 12, 9)),)


def test_an_image_is_read_once_per_batch(photos, recipe, monkeypatch):
    request = parse_request([photos], ["cup", "dog"])
    read = []
    monkeypatch.setattr(module, "read_image", lambda path: read.append(path.name) or read_image(path))
    list(infer(recipe, request, None, 4))
    assert read == ["a.png", "b.png"]


def test_prompts_by_hand_need_no_model(photos):
    request = parse_request([photos / "a.png"], boxes=["4,3,12,9"])
    (record,) = infer(BY_HAND, request, None, 1)
    assert record["prompts"] == [{"box": [4.0, 3.0, 12.0, 9.0], "points": []}]
    assert (record["replies"], record["phrase"], Rle.from_json(record["rle"]).area) == ([], "", 48)


def test_a_folder_that_cannot_be_written_is_found_before_a_model_is_loaded(photos, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(PipelineConfig, "build", lambda self: pytest.fail("loaded"))
    (tmp_path / "file").touch()
    for out in [tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none/of/this")]:
        with pytest.raises(UserError, match="cannot write into"):
            infer(recipe, parse_request([photos], ["cup"]), out, 1)


def test_a_recipe_error_is_found_before_the_folder_is_created(photos, tmp_path):
    with pytest.raises(UserError, match="unknown segmenter"):
        infer(
            PipelineConfig(segmenter="grabcat"),
            parse_request([photos / "a.png"], boxes=["4,3,12,9"]),
            tmp_path / "out",
            1,
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("files_until_full", [0, 1, 2, 3, 4, 5])
def test_a_full_disk_leaves_only_complete_answers(photos, recipe, tmp_path, monkeypatch, files_until_full):
    sync, left = os.fsync, [files_until_full]

    def fill(descriptor: int) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fill)
    out = tmp_path / "out"
    done = []
    records = infer(recipe, parse_request([photos], ["cup"]), out, 1)
    with pytest.raises(UserError, match="No space left on device"):
        done.extend(record["id"] for record in records)
    assert done == ["a-cup", "b-cup"][: files_until_full // 3]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}{suffix}" for name in done for suffix in (".json", ".mask.png", ".overlay.png")
    )


def test_checking_the_folder_leaves_no_files(photos, recipe, tmp_path):
    records = infer(recipe, parse_request([photos], ["cup"]), tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()
    next(records)
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_prompts_by_hand_use_the_named_segmenter(photos):
    request = parse_request([photos / "a.png"], boxes=["4,3,12,9"], clicks=["6,5,+", "1,1,-"])
    (record,) = infer(PipelineConfig(segmenter="grabcut"), request, None, 1)
    assert record["prompts"][0]["points"] == [[6.0, 5.0, 1], [1.0, 1.0, 0]]
    with pytest.raises(UserError, match="takes no points"):
        list(infer(BY_HAND, request, None, 1))
    assert request.by_hand[0] == Prompt(Box(4, 3, 12, 9), request.by_hand[0].points)
