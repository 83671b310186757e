"""A search that is stopped, killed, or begun anew: the bytes at the end, and what is never mixed."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from filelock import FileLock

from sam4mllm.data.samples import SampleSet, write_samples
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.runtime.parallel import InProcess, ProcessPool
from sam4mllm.targets import run as module
from sam4mllm.targets.record import Target, read_targets, write_targets
from sam4mllm.targets.run import Searching, find_targets, fingerprint, parted
from sam4mllm.targets.search import Search, make_targets
from tests.paths import ROOT
from tests.searching import grabcut, pictures

SEARCH = Search(candidates=4, keep=2, least=0.0)
WORK = Searching(grabcut, SEARCH)
ABOUT = {"search": {"candidates": 4}, "segmenter": "grabcut"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "PICTURES", 3)


@pytest.fixture
def samples(tmp_path) -> SampleSet:
    return pictures(tmp_path / "pictures", 8)


@dataclass
class Stopping:
    """An executor that goes backwards through the parts, and breaks down after some."""

    after: int
    asked: list[int]

    def run(self, work: Searching, parts: Mapping[int, SampleSet]) -> Iterator[tuple[int, list[Target]]]:
        for number in list(reversed(parts))[: self.after]:
            self.asked.append(number)
            yield from InProcess().run(work, {number: parts[number]})
        if self.after < len(parts):
            raise KeyboardInterrupt


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_targets_are_those_of_a_plain_loop(samples, tmp_path):
    said = find_targets(samples, InProcess(), WORK, tmp_path / "out", ABOUT)
    assert list(read_targets(tmp_path / "out").values()) == list(make_targets(samples, grabcut(device=None), SEARCH))
    assert said.startswith("16 masks, the best candidates with a mean IoU of 0.")
    write_targets(make_targets(samples, grabcut(device=None), SEARCH), tmp_path / "plain", {})
    assert content(tmp_path / "out").keys() == content(tmp_path / "plain").keys()


def test_a_stopped_run_goes_on_where_it_was_and_ends_in_the_same_bytes(samples, tmp_path):
    find_targets(samples, InProcess(), WORK, tmp_path / "whole", ABOUT)
    asked: list[int] = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            find_targets(samples, Stopping(1, asked), WORK, tmp_path / "out", ABOUT)
    (tmp_path / "out" / ".targets-00000-0123.99.part.parquet").write_bytes(b"left by a kill")
    told: list[int] = []
    find_targets(samples, Stopping(9, asked), WORK, tmp_path / "out", ABOUT, told.append)
    assert asked == [2, 1, 0]
    assert told == [10, 6]
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_masks_without_a_pixel_are_told(samples, tmp_path):
    bare = replace(samples.samples[0], id="bare", masks=(Rle.empty(30, 40),))
    with_bare = replace(samples, samples=(*samples.samples, bare))
    for _ in range(2):  # the second time nothing is left to be done
        said = find_targets(with_bare, InProcess(), WORK, tmp_path / "out", ABOUT)
        assert said.splitlines()[-2].startswith("0 masks (0.0%) keep none")
        assert said.splitlines()[-1] == "1 masks (5.9%) have no pixel to redraw"


def test_workers_write_the_same_bytes(samples, tmp_path):
    find_targets(samples, InProcess(), WORK, tmp_path / "here", ABOUT)
    find_targets(samples, ProcessPool(3), WORK, tmp_path / "workers", ABOUT)
    assert content(tmp_path / "here") == content(tmp_path / "workers")


def test_what_is_done_is_not_done_again(samples, tmp_path):
    said = find_targets(samples, InProcess(), WORK, tmp_path / "out", ABOUT)
    before = content(tmp_path / "out")
    asked: list[int] = []
    assert find_targets(samples, Stopping(0, asked), WORK, tmp_path / "out", ABOUT) == said
    assert (asked, content(tmp_path / "out")) == ([], before)


@pytest.mark.parametrize("parts", [1, 9], ids=["begun", "finished"])
@pytest.mark.parametrize(
    ("change", "differs"),
    [
        pytest.param({"segmenter": "tiny"}, "segmenter", id="segmenter"),
        pytest.param({"search": {"candidates": 5}}, "search", id="search"),
        pytest.param({"weights": ["5f3a"]}, "weights", id="weights"),
    ],
)
def test_other_settings_are_refused_before_anything_is_mixed_or_replaced(samples, tmp_path, change, differs, parts):
    with suppress(KeyboardInterrupt):
        find_targets(samples, Stopping(parts, []), WORK, tmp_path / "out", ABOUT)
    before = content(tmp_path / "out")
    where = "targets.json" if "targets.json" in before else "parts"
    with pytest.raises(
        UserError, match=rf"out holds targets of other settings \({differs}\): .*or remove \S*/{where}$"
    ):
        find_targets(samples, InProcess(), WORK, tmp_path / "out", {**ABOUT, **change})
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("parts", [1, 9], ids=["begun", "finished"])
def test_other_samples_are_refused_too(samples, tmp_path, parts):
    with suppress(KeyboardInterrupt):
        find_targets(samples, Stopping(parts, []), WORK, tmp_path / "out", ABOUT)
    fewer = replace(samples, samples=samples.samples[:5])
    with pytest.raises(UserError, match=r"other settings \(samples\)"):
        find_targets(fewer, InProcess(), WORK, tmp_path / "out", ABOUT)


def test_with_what_is_named_removed_the_new_targets_are_the_only_ones(samples, tmp_path):
    find_targets(samples, InProcess(), WORK, tmp_path / "out", ABOUT)
    (tmp_path / "out" / "targets.json").unlink()
    other = Searching(grabcut, replace(SEARCH, seed=1))
    find_targets(samples, InProcess(), other, tmp_path / "out", {"seed": 1})
    find_targets(samples, InProcess(), other, tmp_path / "new", {"seed": 1})
    assert content(tmp_path / "out") == content(tmp_path / "new")


def test_parts_that_a_killed_clean_up_left_are_not_taken_for_those_of_other_settings(samples, tmp_path):
    """Killed when what the parts belong to was removed already, and some of them not yet."""
    with suppress(KeyboardInterrupt):
        find_targets(samples, Stopping(1, []), WORK, tmp_path / "out", ABOUT)
    (tmp_path / "out" / "parts" / "about.json").unlink()
    other = Searching(grabcut, replace(SEARCH, seed=1))
    find_targets(samples, InProcess(), other, tmp_path / "out", {"seed": 1})
    find_targets(samples, InProcess(), other, tmp_path / "new", {"seed": 1})
    assert content(tmp_path / "out") == content(tmp_path / "new")


@pytest.mark.parametrize(
    ("damage", "message"),
    [("{", r"cannot read .*about\.json: remove it, and run"), ("[]", "holds targets of other settings")],
)
def test_a_damaged_note_of_what_parts_belong_to_is_one_line(samples, tmp_path, damage, message):
    with suppress(KeyboardInterrupt):
        find_targets(samples, Stopping(1, []), WORK, tmp_path / "out", ABOUT)
    (tmp_path / "out" / "parts" / "about.json").write_text(damage)
    with pytest.raises(UserError, match=message) as caught:
        find_targets(samples, InProcess(), WORK, tmp_path / "out", ABOUT)
    assert "\n" not in str(caught.value)


def test_two_runs_do_not_share_a_folder(samples, tmp_path):
    (tmp_path / "out" / "parts").mkdir(parents=True)
    with (
        FileLock(tmp_path / "out" / "parts" / ".sam4mllm.lock"),
        pytest.raises(UserError, match="another run is writing"),
    ):
        find_targets(samples, InProcess(), WORK, tmp_path / "out", ABOUT)


def test_a_part_that_cannot_be_read_is_one_line(samples, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        find_targets(samples, Stopping(1, []), WORK, tmp_path / "out", ABOUT)
    (tmp_path / "out" / "parts" / "00002.json").write_text("[{")
    with pytest.raises(UserError, match=r"cannot read .*00002\.json: remove it"):
        find_targets(samples, InProcess(), WORK, tmp_path / "out", ABOUT)


def test_missing_pictures_are_all_told_in_one_line_before_anything_is_drawn(samples, tmp_path):
    again = tuple(replace(sample, id=f"{sample.id}-again") for sample in samples)
    for number in (4, 7):
        (tmp_path / "pictures" / f"{number}.png").unlink()
    asked: list[int] = []
    with pytest.raises(UserError, match=r"^2 of 8 pictures are missing, the first is \S+/4\.png: .*--images") as caught:
        find_targets(
            replace(samples, samples=samples.samples + again), Stopping(9, asked), WORK, tmp_path / "out", ABOUT
        )
    assert "\n" not in str(caught.value)
    assert asked == []
    assert not (tmp_path / "out").exists()


def test_pictures_of_finished_parts_are_not_needed_any_more(samples, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        find_targets(samples, Stopping(1, []), WORK, tmp_path / "out", ABOUT)
    (tmp_path / "pictures" / "7.png").unlink()
    find_targets(samples, InProcess(), WORK, tmp_path / "out", ABOUT)
    assert len(read_targets(tmp_path / "out")) == 16


def test_an_unreadable_picture_keeps_what_is_done_and_once_mended_the_run_goes_on_from_there(samples, tmp_path):
    find_targets(samples, InProcess(), WORK, tmp_path / "whole", ABOUT)
    spoilt = tmp_path / "pictures" / "7.png"
    pixels = spoilt.read_bytes()
    spoilt.write_bytes(pixels[:-100])
    with pytest.raises(UserError, match=r"sample s7: cannot read .*7\.png"):
        find_targets(samples, InProcess(), WORK, tmp_path / "out", ABOUT)
    assert sorted(path.name for path in (tmp_path / "out" / "parts").glob("0*")) == ["00000.json", "00001.json"]
    spoilt.write_bytes(pixels)
    told: list[int] = []
    find_targets(samples, InProcess(), WORK, tmp_path / "out", ABOUT, told.append)
    assert told == [12, 4]
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_picture_is_in_one_part_and_none_is_lost(samples):
    again = tuple(replace(sample, id=f"{sample.id}-again") for sample in samples)
    parts = parted(replace(samples, samples=samples.samples + again))
    assert [len(part) for part in parts.values()] == [6, 6, 4]
    assert [len({sample.image for sample in part}) for part in parts.values()] == [3, 3, 2]
    assert parted(replace(samples, samples=())) == {}


def test_the_fingerprint_sees_what_a_target_depends_on(samples):
    one = samples.samples[0]
    others = [
        replace(one, id="x"),
        replace(one, image="x.png"),
        replace(one, masks=one.masks[:1]),
        replace(one, masks=one.masks[::-1]),
    ]
    prints = {fingerprint(replace(samples, samples=(each,))) for each in [one, *others]}
    assert len(prints) == 5
    assert fingerprint(replace(samples, samples=(replace(one, phrase="x"),))) in prints
    assert fingerprint(replace(samples, samples=samples.samples[::-1])) != fingerprint(samples)


def test_a_run_killed_at_any_moment_ends_in_the_same_bytes(tmp_path):
    """The command itself, with `kill -9`; the 20 kills of a longer run are `benchmarks/killed_targets.py`'s."""
    many = pictures(tmp_path / "many", 40)
    write_samples(many, tmp_path / "set", many.images)
    words = [sys.executable, "-m", "sam4mllm.cli", "targets", str(tmp_path / "set"), "--segmenter", "grabcut", "--out"]
    root = ROOT
    subprocess.run([*words, tmp_path / "whole"], check=True, capture_output=True, cwd=root)
    moments, killed = random.Random(0), 0
    for _ in range(3):
        running = subprocess.Popen([*words, tmp_path / "out", "--workers", "2"], cwd=root, stderr=subprocess.DEVNULL)
        begun = tmp_path / "out" / "parts" / "about.json"
        while running.poll() is None and not begun.exists():
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1.0))
        running.kill()
        killed += running.wait() == -signal.SIGKILL
    assert killed
    subprocess.run([*words, tmp_path / "out"], check=True, capture_output=True, cwd=root)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert json.loads((tmp_path / "out" / "targets.json").read_bytes())["count"] == 80
