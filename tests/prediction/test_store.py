"""Files of predictions: shards of one set, what is taken over, and what is refused."""

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
from sam4mllm.prediction.store import Lines, Shard, growing, shard_files

KEYS = ("a", "b", "c", "d")
SAMPLES = SampleSet(tuple(Sample(key, "p.png", 4, 3, "it", ()) for key in KEYS), Path())
MADE = {"mllm": "one"}
WHOLE = Shard()


def said(key: str) -> Prediction:
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
    """Adds predictions; returns the ids of those that were there."""
    with growing(samples, out, shard, settings, retry_failed=retry_failed) as file:
        there = sorted(file.there)
        for key in keys:
            file.add(said(key), {"first": 0.5})
    return there


def interrupted() -> Iterator[str]:
    yield "d"
    raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("text", "shard"), [("1/1", Shard()), ("2/4", Shard(2, 4)), ("12/345", Shard(12, 345))], ids=str
)
def test_a_shard_is_read_as_it_is_written(text, shard):
    assert Shard.of(text) == shard


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/4/2", "1.0/4", "01/4"])
def test_what_is_no_shard_is_one_line(text):
    with pytest.raises(UserError, match="shard") as caught:
        Shard.of(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_part_is_one_shards(count):
    shards = [Shard(number, count) for number in range(1, count + 1)]
    assert all(sum(shard.owns(part) for shard in shards) == 1 for part in range(20))


def test_lines_come_in_any_order_and_end_in_that_of_the_samples(tmp_path):
    out = tmp_path / "new" / "p.jsonl"
    assert write(out, "ca") == []
    assert [one.id for one in read_predictions(out)] == ["a", "c"]
    assert write(out, "db") == ["a", "c"]
    assert out.read_text() == "".join(f"{said(key).to_line()}\n" for key in KEYS)


@pytest.mark.parametrize("name", ["p.jsonl", "p", "p.v1.jsonl"])
def test_shards_have_files_of_their_own_until_they_are_joined(tmp_path, name):
    out = tmp_path / name
    with growing(SAMPLES, out, Shard(1, 2), MADE) as first, growing(SAMPLES, out, Shard(2, 2), MADE) as second:
        second.add(said("b"), {"first": 0.1})
        first.add(said("d"), {"first": 0.2})
        first.add(said("a"), {"first": 0.3})
    assert not out.exists()
    assert len(shard_files(out)) == 2
    assert write(out, "c") == ["a", "b", "d"]
    assert [one.id for one in read_predictions(out)] == list(KEYS)
    stem = out.stem
    assert names(tmp_path) == sorted([name, f"{stem}.settings.json", f"{stem}.timings.jsonl"])
    times = [json.loads(line) for line in (tmp_path / f"{stem}.timings.jsonl").read_text().splitlines()]
    assert sorted(time["id"] for time in times) == list(KEYS)


def test_a_joining_that_is_killed_loses_nothing(tmp_path, monkeypatch):
    """Between the writing of the whole and the removal of the shards, too: what is there twice is there once."""
    out = tmp_path / "p.jsonl"
    write(out, "bd", Shard(1, 3))
    write(out, "a", Shard(3, 3))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_put_timings", killed)
        with pytest.raises(KeyboardInterrupt):
            write(out, "c")
    assert [one.id for one in read_predictions(out)] == list(KEYS)
    assert len(shard_files(out)) == 2
    assert write(out, "") == list(KEYS)
    assert names(tmp_path) == ["p.jsonl", "p.settings.json", "p.timings.jsonl"]


def test_a_block_that_ends_badly_keeps_its_lines_and_the_shards(tmp_path):
    out = tmp_path / "p.jsonl"
    write(out, "b", Shard(2, 2))
    with pytest.raises(KeyboardInterrupt):
        write(out, interrupted())
    assert [one.id for one in read_predictions(out)] == ["d"]
    assert write(out, "ac") == ["b", "d"]


def test_failed_ones_that_are_asked_again_are_gone_and_a_kill_meanwhile_loses_nothing(tmp_path):
    out = tmp_path / "p.jsonl"
    with growing(SAMPLES, out, WHOLE, MADE) as file:
        for key in KEYS:
            file.add(replace(said(key), error="no memory" if key in "bd" else None), {})
    with pytest.raises(KeyboardInterrupt):
        write(out, interrupted(), retry_failed=True)
    assert write(out, "b") == ["a", "c", "d"]  # d is what the killed run had asked again
    assert out.read_text() == "".join(f"{said(key).to_line()}\n" for key in KEYS)


@pytest.mark.parametrize("first", [Shard(1, 2), WHOLE], ids=["the shard failed", "the whole failed"])
def test_of_an_answer_and_a_failure_the_answer_stays(tmp_path, first):
    out = tmp_path / "p.jsonl"
    with growing(SAMPLES, out, first, MADE) as file:
        file.add(replace(said("a"), error="no such file"), {})
    write(out, "a", Shard(1, 2) if first == WHOLE else Shard(1, 3))
    write(out, "bcd")
    assert out.read_text() == "".join(f"{said(key).to_line()}\n" for key in KEYS)


def test_shards_that_overlap_leave_one_line_of_timings_for_each(tmp_path):
    out = tmp_path / "p.jsonl"
    write(out, "ab", Shard(1, 2))
    write(out, "bcd", Shard(2, 3))
    write(out, "")
    times = [json.loads(line)["id"] for line in (tmp_path / "p.timings.jsonl").read_text().splitlines()]
    assert sorted(times) == list(KEYS)


@pytest.mark.parametrize("running", [Shard(), Shard(2, 2)], ids=["the whole", "a shard"])
def test_what_is_being_written_is_nobody_elses(tmp_path, running):
    out = tmp_path / "p.jsonl"
    with Lines(running.file(out)), pytest.raises(UserError, match="another run is writing it"):
        write(out, "a")


@pytest.mark.parametrize("shards", [(Shard(), Shard()), (Shard(1, 2), Shard(2, 2)), (Shard(2, 2), Shard())], ids=str)
def test_two_models_do_not_share_the_files_of_a_set(tmp_path, shards):
    out = tmp_path / "p.jsonl"
    write(out, "a", shards[0])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"begun with other settings, see .*\.settings\.json"):
        write(out, "b", shards[1], {"mllm": "two"})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_wrote_nothing_binds_nobody_to_its_settings(tmp_path):
    write(tmp_path / "p.jsonl", "")
    write(tmp_path / "p.jsonl", "abcd", settings={"mllm": "two"})
    assert json.loads((tmp_path / "p.settings.json").read_text()) == {"mllm": "two"}


def test_a_shard_of_another_set_is_named(tmp_path):
    out = tmp_path / "p.jsonl"
    write(out, "ab", Shard(1, 2))
    fewer = SampleSet(SAMPLES.samples[1:], Path())
    with pytest.raises(UserError, match=r"p-1-of-2\.jsonl is of another set: it holds a, which is none of these 3"):
        write(out, "", samples=fewer)


def test_files_of_other_names_are_no_shards(tmp_path):
    for name in ("p-1-of-2.json", "q-1-of-2.jsonl", "p-0-of-2.jsonl", "p-1-of-2.timings.jsonl", "p-one-of-2.jsonl"):
        (tmp_path / name).write_text("{}")
    assert shard_files(tmp_path / "p.jsonl") == []
