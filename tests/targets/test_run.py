"""A search that is stopped, killed or restarted: its final bytes, and settings that are never mixed."""

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
from sam4mllm.targets.run import SearchWork, find_targets, fingerprint, split_into_parts
from sam4mllm.targets.search import Search, make_targets
from tests.paths import ROOT
from tests.searching import grabcut, pictures

SEARCH = Search(candidates=4, keep=2, least=0.0)
WORK = SearchWork(grabcut, SEARCH)
ABOUT = {"search": {"candidates": 4}, "segmenter": "grabcut"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "IMAGES_PER_PART", 3)


@pytest.fixture
def samples(tmp_path) -> SampleSet:
    return pictures(tmp_path / "pictures", 8)


@dataclass
class Stopping:
    """An executor that runs the parts backwards and fails after some."""

    after: int
    part_numbers: list[int]

    def run(self, work: SearchWork, parts: Mapping[int, SampleSet]) -> Iterator[tuple[int, list[Target]]]:
        for number in list(reversed(parts))[: self.after]:
            self.part_numbers.append(number)
            yield from InProcess().run(work, {number: parts[number]})
        if self.after < len(parts):
            raise KeyboardInterrupt


def search(samples, out, executor=None, work=WORK, about=ABOUT, progress=lambda _: None) -> str:
    return find_targets(samples, executor or InProcess(), work, out, about, progress)


def begin(samples, out, parts=1) -> None:
    """Run this many parts; the run is stopped unless they are all."""
    with suppress(KeyboardInterrupt):
        search(samples, out, Stopping(parts, []))


def twice(samples: SampleSet) -> SampleSet:
    again = tuple(replace(sample, id=f"{sample.id}-again") for sample in samples)
    return replace(samples, samples=samples.samples + again)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_targets_equal_those_of_a_plain_loop(samples, tmp_path):
    summary = search(samples, tmp_path / "out")
    assert list(read_targets(tmp_path / "out").values()) == list(make_targets(samples, grabcut(device=None), SEARCH))
    assert summary.startswith("16 masks, the best candidates with a mean IoU of 0.")
    write_targets(make_targets(samples, grabcut(device=None), SEARCH), tmp_path / "plain", {})
    assert content(tmp_path / "out").keys() == content(tmp_path / "plain").keys()


def test_a_stopped_run_resumes_and_ends_with_the_same_bytes(samples, tmp_path):
    search(samples, tmp_path / "whole")
    part_numbers: list[int] = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search(samples, tmp_path / "out", Stopping(1, part_numbers))
    (tmp_path / "out" / ".targets-00000-0123.99.part.parquet").write_bytes(b"left by a kill")
    progress_counts: list[int] = []
    search(samples, tmp_path / "out", Stopping(9, part_numbers), progress=progress_counts.append)
    assert part_numbers == [2, 1, 0]
    assert progress_counts == [10, 6]
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_masks_without_pixels_are_reported(samples, tmp_path):
    bare = replace(samples.samples[0], id="bare", masks=(Rle.empty(30, 40),))
    with_bare = replace(samples, samples=(*samples.samples, bare))
    for _ in range(2):  # the second run has nothing to do
        summary = search(with_bare, tmp_path / "out")
        assert summary.splitlines()[-2].startswith("0 masks (0.0%) keep none")
        assert summary.splitlines()[-1] == "1 masks (5.9%) have no pixel to redraw"


def test_workers_write_the_same_bytes(samples, tmp_path):
    search(samples, tmp_path / "here")
    search(samples, tmp_path / "workers", ProcessPool(3))
    assert content(tmp_path / "here") == content(tmp_path / "workers")


def test_finished_parts_are_not_repeated(samples, tmp_path):
    summary = search(samples, tmp_path / "out")
    before = content(tmp_path / "out")
    part_numbers: list[int] = []
    assert search(samples, tmp_path / "out", Stopping(0, part_numbers)) == summary
    assert (part_numbers, content(tmp_path / "out")) == ([], before)


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
    begin(samples, tmp_path / "out", parts)
    before = content(tmp_path / "out")
    where = "targets.json" if "targets.json" in before else "parts"
    with pytest.raises(UserError, match=rf"out was started with {differs}\S* .*, now .*or remove \S*/{where}$"):
        search(samples, tmp_path / "out", about={**ABOUT, **change})
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("parts", [1, 9], ids=["begun", "finished"])
def test_other_samples_are_refused(samples, tmp_path, parts):
    begin(samples, tmp_path / "out", parts)
    fewer = replace(samples, samples=samples.samples[:5])
    with pytest.raises(UserError, match=r"was started with samples "):
        search(fewer, tmp_path / "out")


@pytest.mark.parametrize(
    ("parts", "removed"),
    [
        pytest.param(9, "targets.json", id="the path that the message names"),
        pytest.param(1, "parts/about.json", id="by a clean-up that was killed before it removed all parts"),
    ],
)
def test_after_a_removal_only_the_new_targets_exist(samples, tmp_path, parts, removed):
    begin(samples, tmp_path / "out", parts)
    (tmp_path / "out" / removed).unlink()
    other = SearchWork(grabcut, replace(SEARCH, seed=1))
    for name in ("out", "new"):
        search(samples, tmp_path / name, work=other, about={"seed": 1})
    assert content(tmp_path / "out") == content(tmp_path / "new")


@pytest.mark.parametrize(
    ("damage", "message"),
    [("{", r"cannot read .*about\.json: remove it and run"), ("[]", "segmenter nothing, now grabcut")],
)
def test_damaged_settings_of_parts_are_a_one_line_error(samples, tmp_path, damage, message):
    begin(samples, tmp_path / "out")
    (tmp_path / "out" / "parts" / "about.json").write_text(damage)
    with pytest.raises(UserError, match=message) as caught:
        search(samples, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_two_runs_cannot_share_a_folder(samples, tmp_path):
    (tmp_path / "out" / "parts").mkdir(parents=True)
    with (
        FileLock(tmp_path / "out" / "parts" / ".sam4mllm.lock"),
        pytest.raises(UserError, match="another run is writing"),
    ):
        search(samples, tmp_path / "out")


def test_an_unreadable_part_is_a_one_line_error(samples, tmp_path):
    begin(samples, tmp_path / "out")
    (tmp_path / "out" / "parts" / "00002.json").write_text("[{")
    with pytest.raises(UserError, match=r"cannot read .*00002\.json: remove it"):
        search(samples, tmp_path / "out")


def test_missing_images_are_reported_in_one_line_before_the_search(samples, tmp_path):
    for number in (4, 7):
        (tmp_path / "pictures" / f"{number}.png").unlink()
    part_numbers: list[int] = []
    with pytest.raises(UserError, match=r"^2 of 8 images are missing, the first is \S+/4\.png: .*--images") as caught:
        search(twice(samples), tmp_path / "out", Stopping(9, part_numbers))
    assert "\n" not in str(caught.value)
    assert part_numbers == []
    assert not (tmp_path / "out").exists()


def test_images_of_finished_parts_are_no_longer_needed(samples, tmp_path):
    begin(samples, tmp_path / "out")
    (tmp_path / "pictures" / "7.png").unlink()
    search(samples, tmp_path / "out")
    assert len(read_targets(tmp_path / "out")) == 16


def test_an_unreadable_image_keeps_finished_parts_and_the_run_resumes_once_it_is_repaired(samples, tmp_path):
    search(samples, tmp_path / "whole")
    spoilt = tmp_path / "pictures" / "7.png"
    pixels = spoilt.read_bytes()
    spoilt.write_bytes(pixels[:-100])
    with pytest.raises(UserError, match=r"sample s7: cannot read .*7\.png"):
        search(samples, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "parts").glob("0*")) == ["00000.json", "00001.json"]
    spoilt.write_bytes(pixels)
    progress_counts: list[int] = []
    search(samples, tmp_path / "out", progress=progress_counts.append)
    assert progress_counts == [12, 4]
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_every_image_is_in_exactly_one_part(samples):
    parts = split_into_parts(twice(samples))
    assert [len(part) for part in parts.values()] == [6, 6, 4]
    assert [len({sample.image for sample in part}) for part in parts.values()] == [3, 3, 2]
    assert split_into_parts(replace(samples, samples=())) == {}


def test_the_fingerprint_covers_what_a_target_depends_on(samples):
    sample = samples.samples[0]
    changes = ({}, {"id": "x"}, {"image": "x.png"}, {"masks": sample.masks[:1]}, {"masks": sample.masks[::-1]})
    prints = {fingerprint(replace(samples, samples=(replace(sample, **change),))) for change in changes}
    assert len(prints) == 5
    assert fingerprint(replace(samples, samples=(replace(sample, phrase="x"),))) in prints
    assert fingerprint(replace(samples, samples=samples.samples[::-1])) != fingerprint(samples)


def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(tmp_path):
    """The command itself, with `kill -9`. `benchmarks/killed_targets.py` kills a longer run 20 times."""
    many = pictures(tmp_path / "many", 40)
    write_samples(many, tmp_path / "set", many.images)
    command = f"-m sam4mllm.cli targets {tmp_path / 'set'} --segmenter grabcut --out"
    arguments = [sys.executable, *command.split()]
    subprocess.run([*arguments, tmp_path / "whole"], check=True, capture_output=True, cwd=ROOT)
    moments, killed = random.Random(0), 0
    for _ in range(3):
        running = subprocess.Popen(
            [*arguments, tmp_path / "out", "--workers", "2"], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        started = tmp_path / "out" / "parts" / "about.json"
        while running.poll() is None and not started.exists():
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1.0))
        running.kill()
        killed += running.wait() == -signal.SIGKILL
    assert killed
    subprocess.run([*arguments, tmp_path / "out"], check=True, capture_output=True, cwd=ROOT)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert json.loads((tmp_path / "out" / "targets.json").read_bytes())["count"] == 80
