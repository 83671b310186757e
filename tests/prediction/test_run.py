"""`sam4mllm predict` as a whole: whoever answers, and however often it is killed, the file is the same."""

import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from sam4mllm.config import Recipe
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.run import predict_set, settings_of
from sam4mllm.prediction.store import Shard
from sam4mllm.runtime.parallel import ProcessPool, Ray
from sam4mllm.runtime.progress import progress
from sam4mllm.synthetic import Level
from sam4mllm.synthetic.shards import write_scenes
from tests.paths import ROOT

TINY = Recipe(mllm="tiny", segmenter="tiny", prompter="adaptive", options={"points": 4, "budget": 6}, device="cpu")
ORACLE = Recipe(segmenter="grabcut", prompter="oracle", device="cpu")


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> SampleSet:
    return write_scenes(tmp_path_factory.mktemp("scenes"), "test", 5, Level(objects=(1, 3)))


@pytest.fixture(scope="module")
def whole(samples, tmp_path_factory) -> bytes:
    """What one undisturbed process writes."""
    out = tmp_path_factory.mktemp("whole") / "p.jsonl"
    assert predict_set(TINY, samples, out, 2, progress) == []
    found = read_predictions(out)
    assert sum(bool(one.asked) for one in found) > len(found) / 2
    return out.read_bytes()


def test_workers_write_the_same_file(samples, whole, tmp_path):
    predict_set(TINY, samples, tmp_path / "p.jsonl", 2, progress, executor=ProcessPool(2, ("cpu",)))
    assert (tmp_path / "p.jsonl").read_bytes() == whole


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="the package ray is not installed")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_ray_writes_the_same_file(samples, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    predict_set(TINY, samples, tmp_path / "p.jsonl", 2, progress, executor=Ray("local", 2, "cpu"))
    assert (tmp_path / "p.jsonl").read_bytes() == whole


def test_four_shards_and_their_joining_write_the_same_file(samples, whole, tmp_path, monkeypatch):
    for number in (2, 4, 1, 3):
        predict_set(TINY, samples, tmp_path / "p.jsonl", 2, progress, shard=Shard(number, 4))
    monkeypatch.setattr(Recipe, "build", lambda *_: pytest.fail("loaded"))
    predict_set(TINY, samples, tmp_path / "p.jsonl", 2, progress)
    assert (tmp_path / "p.jsonl").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.jsonl", "p.settings.json", "p.timings.jsonl"]


def test_the_oracles_points_do_not_depend_on_who_draws_them(samples, tmp_path):
    predict_set(ORACLE, samples, tmp_path / "here.jsonl", 2, progress)
    for number in (1, 2):
        predict_set(ORACLE, samples, tmp_path / "p.jsonl", 2, progress, shard=Shard(number, 2))
    predict_set(ORACLE, samples, tmp_path / "p.jsonl", 2, progress)
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


@pytest.mark.parametrize("device", ["cuda:1", "cuda:0,cuda:1"])
def test_settings_say_what_answers_and_not_who(samples, device):
    one, other = (settings_of(replace(TINY, device=each), samples, 4) for each in ("cuda", device))
    assert one == other
    assert one["device"] == "cuda"
    assert one != settings_of(replace(TINY, device="cpu"), samples, 4)
    assert one != settings_of(replace(TINY, device="cuda"), samples, 5)


def test_an_adapter_that_was_trained_again_in_its_place_is_another(samples, tmp_path):
    recipe, weights = replace(TINY, adapter=str(tmp_path)), tmp_path / "adapter_model.safetensors"
    made = []
    for data in (b"one", b"two", b"one"):
        weights.write_bytes(data)
        made.append(settings_of(recipe, samples, 4))
    assert made[0] == made[2] != made[1]


def test_batches_of_another_size_are_not_mixed(samples, tmp_path):
    predict_set(ORACLE, samples, tmp_path / "p.jsonl", 2, progress, shard=Shard(1, 2))
    with pytest.raises(UserError, match="begun with other settings"):
        predict_set(ORACLE, samples, tmp_path / "p.jsonl", 3, progress, shard=Shard(2, 2))


@pytest.mark.parametrize("ways", [[[]], [["--shard", "1/2"], ["--shard", "2/2"], []]], ids=["alone", "shards"])
@pytest.mark.parametrize("gone", ["one picture", "all"])
def test_what_failed_is_asked_again_where_that_is_said(command, tmp_path, ways, gone):
    """A passing fault: pictures that are elsewhere for a while."""
    there = write_scenes(tmp_path, "test", 5, Level(objects=(1, 3)))
    words = ["predict", tmp_path / "test", "--prompter", "oracle", "--segmenter", "grabcut", "--batch-size", 1]
    assert command(*words, "--out", tmp_path / "whole.jsonl")[0] == 0
    moved = there.images if gone == "all" else there.path(there.samples[0])
    moved.rename(tmp_path / "away")
    ends = [command(*words, "--out", tmp_path / "p.jsonl", *way) for way in ways]
    assert [code for code, *_ in ends] == [0 if gone != "all" else 2] * len(ways)
    assert "and count as empty until --retry-failed asks them again" in ends[-1][2].splitlines()[-1]
    assert ("error: all " in ends[-1][2]) == (gone == "all")
    (tmp_path / "away").rename(moved)
    before = (tmp_path / "p.jsonl").read_bytes()
    assert command(*words, "--out", tmp_path / "p.jsonl")[0] == (0 if gone != "all" else 2)
    assert (tmp_path / "p.jsonl").read_bytes() == before
    assert command(*words, "--out", tmp_path / "p.jsonl", "--retry-failed")[0] == 0
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    times = [json.loads(line)["id"] for line in (tmp_path / "p.timings.jsonl").read_text().splitlines()]
    assert sorted(times) == sorted(sample.id for sample in there)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--shard", "5/4"], "there is no shard 5 of 4"),
        (["--out", "whole.txt"], "in a file whose name ends with .jsonl, got whole.txt"),
        (["--out", "whole"], "in a file whose name ends with .jsonl, got whole"),
        (["--shard", "two"], "a shard is written NUMBER/COUNT"),
        (["--device", "cpu,cpu"], "2 devices need as many workers"),
        (["--ray", "local", "--device", "cpu,cpu", "--workers", 2], "Ray deals its GPUs out itself"),
        (["--workers", 2, "--device", "nowhere"], "device"),
    ],
)
def test_a_mistake_about_who_answers_is_one_line(command, samples, tmp_path, words, says):
    folder = samples.images.parent / "test"
    given = ["predict", folder, "--prompter", "oracle", "--segmenter", "tiny", "--out", tmp_path / "p.jsonl"]
    code, _, err = command(*given, *words)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert says in err.splitlines()[-1]


BASELINES = {
    "zero-shot box": ["--mllm", "tiny", "--prompter", "box"],
    "verified points": ["--mllm", "tiny", "--prompter", "verified"],
    "oracle box": ["--prompter", "oracle", "--positive", 0, "--negative", 0],
    "oracle points": ["--prompter", "oracle"],
}


def test_what_needs_no_training_goes_through_the_same_commands(command, samples, tmp_path):
    folder, found, numbers = samples.images.parent / "test", {}, {}
    for name, words in BASELINES.items():
        file = tmp_path / f"{name}.jsonl"
        assert command("predict", folder, *words, "--segmenter", "tiny", "--device", "cpu", "--out", file)[0] == 0
        found[name] = read_predictions(file)
        numbers[name] = json.loads(command("score", folder, file, "--profile", "rela", "--json")[1])
    assert all(not prompt.points for name in ("zero-shot box", "oracle box") for prompt in prompts(found[name]))
    verified = [one for one in found["verified points"] if one.prompts]
    assert all(len(one.asked) == 9 * len(one.prompts) for one in verified)
    assert all(prompt.points for prompt in prompts(verified))
    boxes = {one.id: [prompt.box for prompt in one.prompts] for one in found["zero-shot box"]}
    assert {one.id: [prompt.box for prompt in one.prompts] for one in found["verified points"]} == boxes
    assert all(len(prompt.points) == 6 for prompt in prompts(found["oracle points"]))
    assert [numbers[name]["oracle"] for name in BASELINES] == [0, 0, len(samples), len(samples)]
    gains = numbers["oracle points"]["metrics"]["cIoU"] - numbers["oracle box"]["metrics"]["cIoU"]
    assert gains > 0.05


def prompts(predictions):
    return [prompt for one in predictions for prompt in one.prompts]


def test_a_run_killed_at_any_moment_ends_in_the_same_bytes(tmp_path):
    """The command itself, with `kill -9`; the 20 kills of a longer run are `benchmarks/killed_predict.py`'s."""
    write_scenes(tmp_path / "scenes", "test", 60, Level(objects=(2, 3)))
    words = [sys.executable, "-m", "sam4mllm.cli", "predict", str(tmp_path / "scenes" / "test"), "--batch-size", "1"]
    words += ["--prompter", "oracle", "--segmenter", "grabcut", "--out"]
    subprocess.run([*words, tmp_path / "whole.jsonl"], check=True, capture_output=True, cwd=ROOT)
    moments, killed, out = random.Random(0), 0, tmp_path / "out.jsonl"
    for workers in ("1", "2", "1"):
        before = out.stat().st_size if out.exists() else 0
        running = subprocess.Popen([*words, out, "--workers", workers], cwd=ROOT, stderr=subprocess.DEVNULL)
        while running.poll() is None and (not out.exists() or out.stat().st_size <= before):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.2))
        running.kill()
        killed += running.wait() == -signal.SIGKILL
    assert killed
    subprocess.run([*words, out], check=True, capture_output=True, cwd=ROOT)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
