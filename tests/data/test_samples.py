import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sam4mllm.data.samples import INDEX, Sample, read_samples, write_samples
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle

FIRST, SECOND = Rle.from_runs([0, 4, 8], 4, 3), Rle.from_runs([8, 4], 4, 3)
CAT = Sample("a", "train/1.jpg", 3, 4, "the cat", (FIRST,), source="toy", split="val")
SAMPLES = [
    CAT,
    replace(CAT, id="b", phrase="both cats", masks=(FIRST, SECOND), raw="Both cats!"),
    replace(CAT, id="c", phrase="", masks=()),
    replace(CAT, id="d", phrase="der Löwe 🦁\n", ignore=SECOND, kind="sentence", split="test"),
]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("samples", [SAMPLES, SAMPLES[:1], []], ids=["all", "one", "none"])
def test_samples_survive_writing_and_reading(tmp_path, samples):
    write_samples(samples, tmp_path / "val", tmp_path / "images")
    sample_set = read_samples(tmp_path / "val")
    assert list(sample_set) == samples
    assert len(sample_set) == len(samples)
    assert sample_set.images == tmp_path / "images"


def test_equal_samples_give_equal_bytes(tmp_path):
    write_samples(SAMPLES, tmp_path / "one", Path("/data/images"))
    write_samples(iter(SAMPLES), tmp_path / "two", Path("/data/images"))
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_the_index_describes_the_folder(tmp_path):
    write_samples(SAMPLES, tmp_path, Path("/data/images"))
    index = json.loads((tmp_path / INDEX).read_text())
    assert index.pop("shards") == [path.name for path in tmp_path.glob("*.parquet")]
    assert index == {"version": 1, "images": "/data/images", "sources": ["toy"], "splits": ["test", "val"], "count": 4}


def test_a_relative_image_root_moves_with_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_samples(SAMPLES, Path("here/data/val"), Path("here/images"))
    Path("here").rename("there")
    sample_set = read_samples(tmp_path / "there/data/val")
    assert sample_set.path(CAT).resolve() == (tmp_path / "there/images/train/1.jpg").resolve()


@pytest.mark.parametrize("links", [["data"], ["images"], ["data", "images"]], ids=" and ".join)
def test_images_are_found_if_folders_are_links(tmp_path, monkeypatch, links):
    project, disk = tmp_path / "project", tmp_path / "disk" / "far" / "away"
    project.mkdir()
    for name in ("data", "images"):
        place = (disk if name in links else project) / name
        place.mkdir(parents=True)
        if name in links:
            (project / name).symlink_to(place)
    (project / "images" / "train").mkdir()
    (project / "images" / "train" / "1.jpg").touch()
    monkeypatch.chdir(project)
    write_samples(SAMPLES, Path("data/set/val"), Path("images"))
    monkeypatch.chdir(tmp_path)
    assert read_samples(project / "data/set/val").path(CAT).is_file()


def test_the_image_root_can_be_overridden(tmp_path):
    write_samples(SAMPLES, tmp_path, Path("/data/images"))
    assert read_samples(tmp_path, images=Path("/other")).path(CAT) == Path("/other/train/1.jpg")


def test_a_repeated_id_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="1 sample ids occur more than once, the first is 'a"):
        write_samples([CAT, CAT], tmp_path / "new", tmp_path)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({"image": path}, "below the image root") for path in ("", "/etc/passwd", "../x.jpg", "a/../../x.jpg")),
        *(({"image": path}, "below the image root") for path in ("..\\x.jpg", "C:/x.jpg")),
        ({"image": "a" * 256}, "not a valid file name: 'aaa"),
        ({"image": "a/b\0.jpg"}, "not a valid file name"),
        ({"width": 0}, "an image must have 1 to"),
        ({"width": 2**40, "masks": ()}, "an image must have 1 to"),
        ({"masks": (Rle.empty(3, 4),)}, "sample a: a mask of"),
        ({"ignore": Rle.empty(5, 3)}, "sample a: a mask of"),
    ],
    ids=lambda value: value if isinstance(value, str) else ascii(value)[:30],
)
def test_an_invalid_path_size_or_mask_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        replace(CAT, **change)


def test_the_ground_truth_is_the_union_of_the_masks():
    assert SAMPLES[1].ground_truth == Rle.from_runs([0, 4, 4, 4], 4, 3)
    assert SAMPLES[2].ground_truth.area == 0


def test_shards_can_be_read_by_datasets(tmp_path):
    from datasets import Dataset

    write_samples(SAMPLES, tmp_path / "val", tmp_path)
    shard = next((tmp_path / "val").glob("*.parquet"))
    rows = Dataset.from_parquet(str(shard), cache_dir=str(tmp_path / "cache"))
    assert rows["phrase"] == [sample.phrase for sample in SAMPLES]
    assert rows[1]["masks"] == [FIRST.counts, SECOND.counts]


def test_samples_do_not_import_torch():
    code = "import sys, sam4mllm.data.samples; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
