"""Prediction files: shards, merging, and refused files."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.prediction import store as module
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.prediction.store import LockedLines, Shard, open_predictions, shard_files

KEYS = ("a", "b", "c", "d")
SAMPLES = SampleSet(tuple(Sample(key, "p.png", 4, 3, "it", ()) for key in KEYS), Path())
MADE = {"mllm": "one"}
WHOLE = Shard()


def make_prediction(key: str) -> Prediction:
    return Prediction(key, (), Rle.empty(3, 4))


def write(
    out: Path,
    keys: Iterable[str],
    shard: Shard = WHOLE,
    settings=MADE,
    samples: SampleSet = SAMPLES,
    *,
    retry_failed: bool = False,
) -> list[str]:
    """Append predictions; returns the ids already in the file."""
    with open_predictions(samples, out, shard, settings, retry_failed=retry_failed) as file:
        existing = sorted(file.existing)
        for key in keys:
            file.add(make_prediction(key), {"first": 0.5})
    return existing


def interrupted() -> Iterator[str]:
    yield "d"
    raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("text", "shard"), [("1/1", Shard()), ("2/4", Shard(2, 4)), ("12/345", Shard(12, 345))], ids=str
)
def test_a_shard_is_parsed(text, shard):
    assert Shard.of(text) == shard


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/4/2", "1.0/4", "01/4"])
def test_an_invalid_shard_is_a_one_line_error(text):
    with pytest.raises(UserError, match="shard") as caught:
        Shard.of(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_part_belongs_to_one_shard(count):
    shards = [Shard(number, count) for number in range(1, count + 1)]
    assert all(sum(shard.owns(part) for shard in shards) == 1 for part in range(20))


def test_lines_are_sorted_in_the_order_of_the_samples(tmp_path):
    out = tmp_path / "new" / "p.jsonl"
    assert write(out, "ca") == []
    assert [prediction.id for prediction in read_predictions(out)] == ["a", "c"]
    assert write(out, "db") == ["a", "c"]
    assert out.read_text() == "".join(f"{make_prediction(key).to_line()}\n" for key in KEYS)


@pytest.mark.parametrize("name", ["p.jsonl", "p", "p.v1.jsonl"])
def test_shards_have_their_own_files_until_they_are_merged(tmp_path, name):
    out = tmp_path / name
    with (
        open_predictions(SAMPLES, out, Shard(1, 2), MADE) as first,
        open_predictions(SAMPLES, out, Shard(2, 2), MADE) as second,
    ):
        second.add(make_prediction("b"), {"first": 0.1})
        first.add(make_prediction("d"), {"first": 0.2})
        first.add(make_prediction("a"), {"first": 0.3})
    assert not out.exists()
    assert len(shard_files(out)) == 2
    assert write(out, "c") == ["a", "b", "d"]
    assert [prediction.id for prediction in read_predictions(out)] == list(KEYS)
    stem = out.stem
    assert names(tmp_path) == sorted([name, f"{stem}.settings.json", f"{stem}.timings.jsonl"])
    times = [json.loads(line) for line in (tmp_path / f"{stem}.timings.jsonl").read_text().splitlines()]
    assert sorted(time["id"] for time in times) == list(KEYS)


def test_a_killed_merge_loses_nothing(tmp_path, monkeypatch):
    """Also if it is killed between writing the merged file and removing the shards: no id occurs twice."""
    out = tmp_path / "p.jsonl"
    write(out, "bd", Shard(1, 3))
    write(out, "a", Shard(3, 3))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_merge_timings", killed)
        with pytest.raises(KeyboardInterrupt):
            write(out, "c")
    assert [prediction.id for prediction in read_predictions(out)] == list(KEYS)
    assert len(shard_files(out)) == 2
    assert write(out, "") == list(KEYS)
    assert names(tmp_path) == ["p.jsonl", "p.settings.json", "p.timings.jsonl"]


def test_an_exception_keeps_the_lines_and_the_shards(tmp_path):
    out = tmp_path / "p.jsonl"
    write(out, "b", Shard(2, 2))
    with pytest.raises(KeyboardInterrupt):
        write(out, interrupted())
    assert [prediction.id for prediction in read_predictions(out)] == ["d"]
    assert write(out, "ac") == ["b", "d"]


def test_retried_failures_are_removed_and_a_kill_loses_nothing(tmp_path):
    out = tmp_path / "p.jsonl"
    with open_predictions(SAMPLES, out, WHOLE, MADE) as file:
        for key in KEYS:
            file.add(replace(make_prediction(key), error="no memory" if key in "bd" else None), {})
    with pytest.raises(KeyboardInterrupt):
        write(out, interrupted(), retry_failed=True)
    assert write(out, "b") == ["a", "c", "d"]  # d was predicted again by the killed run
    assert out.read_text() == "".join(f"{make_prediction(key).to_line()}\n" for key in KEYS)


@pytest.mark.parametrize("first", [Shard(1, 2), WHOLE], ids=["the shard failed", "the whole failed"])
def test_an_answer_replaces_a_failure(tmp_path, first):
    out = tmp_path / "p.jsonl"
    with open_predictions(SAMPLES, out, first, MADE) as file:
        file.add(replace(make_prediction("a"), error="no such file"), {})
    write(out, "a", Shard(1, 2) if first == WHOLE else Shard(1, 3))
    write(out, "bcd")
    assert out.read_text() == "".join(f"{make_prediction(key).to_line()}\n" for key in KEYS)


def test_overlapping_shards_leave_one_line_of_timings_per_sample(tmp_path):
    out = tmp_path / "p.jsonl"
    write(out, "ab", Shard(1, 2))
    write(out, "bcd", Shard(2, 3))
    write(out, "")
    times = [json.loads(line)["id"] for line in (tmp_path / "p.timings.jsonl").read_text().splitlines()]
    assert sorted(times) == list(KEYS)


@pytest.mark.parametrize("running", [Shard(), Shard(2, 2)], ids=["the whole", "a shard"])
def test_a_file_that_is_being_written_is_locked(tmp_path, running):
    out = tmp_path / "p.jsonl"
    with LockedLines(running.file(out)), pytest.raises(UserError, match="another run is writing it"):
        write(out, "a")


@pytest.mark.parametrize("shards", [(Shard(), Shard()), (Shard(1, 2), Shard(2, 2)), (Shard(2, 2), Shard())], ids=str)
def test_two_models_cannot_share_a_file(tmp_path, shards):
    out = tmp_path / "p.jsonl"
    write(out, "a", shards[0])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="was started with mllm one, now two: use the values"):
        write(out, "b", shards[1], {"mllm": "two"})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_settings_of_a_run_that_wrote_nothing_are_replaced(tmp_path):
    write(tmp_path / "p.jsonl", "")
    write(tmp_path / "p.jsonl", "abcd", settings={"mllm": "two"})
    assert json.loads((tmp_path / "p.settings.json").read_text()) == {"mllm": "two"}


def test_a_shard_with_other_samples_is_an_error_that_names_its_file(tmp_path):
    out = tmp_path / "p.jsonl"
    write(out, "ab", Shard(1, 2))
    fewer = SampleSet(SAMPLES.samples[1:], Path())
    with pytest.raises(UserError, match=r"p-1-of-2\.jsonl belongs to other samples: a is not among these 3"):
        write(out, "", samples=fewer)


def test_files_with_other_names_are_not_shards(tmp_path):
    for name in ("p-1-of-2.json", "q-1-of-2.jsonl", "p-0-of-2.jsonl", "p-1-of-2.timings.jsonl", "p-one-of-2.jsonl"):
        (tmp_path / name).write_text("{}")
    assert shard_files(tmp_path / "p.jsonl") == []
