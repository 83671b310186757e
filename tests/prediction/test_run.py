"""`sam4mllm predict` end to end: any executor and any number of kills give the same file."""

import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.run import predict_set, prediction_settings
from sam4mllm.prediction.store import Shard
from sam4mllm.runtime.parallel import ProcessPool, Ray
from sam4mllm.runtime.progress import progress
from sam4mllm.synthetic import Level
from sam4mllm.synthetic.shards import write_scenes
from tests.paths import ROOT
from tests.running import without_summary

TINY = PipelineConfig(
    mllm="tiny", segmenter="tiny", prompter="adaptive", options={"points": 4, "budget": 6}, device="cpu"
)
ORACLE = PipelineConfig(segmenter="grabcut", prompter="oracle", device="cpu")


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> SampleSet:
    return write_scenes(tmp_path_factory.mktemp("scenes"), "test", 5, Level(objects=(1, 3)))


@pytest.fixture(scope="module")
def whole(samples, tmp_path_factory) -> bytes:
    """The file that one uninterrupted process writes."""
    out = tmp_path_factory.mktemp("whole") / "p.jsonl"
    assert predict_set(TINY, samples, out, 2, progress) == []
    answers = read_predictions(out)
    assert sum(bool(prediction.point_answers) for prediction in answers) > len(answers) / 2
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


def test_four_merged_shards_write_the_same_file(samples, whole, tmp_path, monkeypatch):
    for number in (2, 4, 1, 3):
        predict_set(TINY, samples, tmp_path / "p.jsonl", 2, progress, shard=Shard(number, 4))
    monkeypatch.setattr(PipelineConfig, "build", lambda *_: pytest.fail("loaded"))
    predict_set(TINY, samples, tmp_path / "p.jsonl", 2, progress)
    assert (tmp_path / "p.jsonl").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.jsonl", "p.settings.json", "p.timings.jsonl"]


def test_the_oracles_points_do_not_depend_on_the_executor(samples, tmp_path):
    predict_set(ORACLE, samples, tmp_path / "here.jsonl", 2, progress)
    for number in (1, 2):
        predict_set(ORACLE, samples, tmp_path / "p.jsonl", 2, progress, shard=Shard(number, 2))
    predict_set(ORACLE, samples, tmp_path / "p.jsonl", 2, progress)
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


@pytest.mark.parametrize("device", ["cuda:1", "cuda:0,cuda:1"])
def test_settings_name_the_kind_of_device_only(samples, device):
    settings, same_kind = (prediction_settings(replace(TINY, device=name), samples, 4) for name in ("cuda", device))
    assert settings == same_kind
    assert settings["device"] == "cuda"
    assert settings != prediction_settings(replace(TINY, device="cpu"), samples, 4)
    assert settings != prediction_settings(replace(TINY, device="cuda"), samples, 5)


def test_a_retrained_adapter_changes_the_settings(samples, tmp_path):
    recipe, weights = replace(TINY, adapter=str(tmp_path)), tmp_path / "adapter_model.safetensors"
    all_settings = []
    for data in (b"one", b"two", b"one"):
        weights.write_bytes(data)
        all_settings.append(prediction_settings(recipe, samples, 4))
    assert all_settings[0] == all_settings[2] != all_settings[1]


def test_another_batch_size_is_refused(samples, tmp_path):
    predict_set(ORACLE, samples, tmp_path / "p.jsonl", 2, progress, shard=Shard(1, 2))
    with pytest.raises(UserError, match="was started with "):
        predict_set(ORACLE, samples, tmp_path / "p.jsonl", 3, progress, shard=Shard(2, 2))


@pytest.mark.parametrize("ways", [[[]], [["--shard", "1/2"], ["--shard", "2/2"], []]], ids=["alone", "shards"])
@pytest.mark.parametrize("gone", ["one picture", "all"])
def test_failed_samples_are_predicted_again_with_retry_failed(command, tmp_path, ways, gone):
    """A temporary fault: images that are moved away for a while."""
    scenes = write_scenes(tmp_path, "test", 5, Level(objects=(1, 3)))
    arguments = ["predict", tmp_path / "test", "--prompter", "oracle", "--segmenter", "grabcut", "--batch-size", 1]
    assert command(*arguments, "--out", tmp_path / "whole.jsonl")[0] == 0
    moved = scenes.images if gone == "all" else scenes.path(scenes.samples[0])
    moved.rename(tmp_path / "away")
    ends = [command(*arguments, "--out", tmp_path / "p.jsonl", *way) for way in ways]
    assert [code for code, *_ in ends] == [0 if gone != "all" else 2] * len(ways)
    assert (
        "they count as empty masks until --retry-failed predicts them again"
        in without_summary(ends[-1][2]).splitlines()[-1]
    )
    assert ("error: all " in ends[-1][2]) == (gone == "all")
    (tmp_path / "away").rename(moved)
    before = (tmp_path / "p.jsonl").read_bytes()
    assert command(*arguments, "--out", tmp_path / "p.jsonl")[0] == (0 if gone != "all" else 2)
    assert (tmp_path / "p.jsonl").read_bytes() == before
    assert command(*arguments, "--out", tmp_path / "p.jsonl", "--retry-failed")[0] == 0
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    times = [json.loads(line)["id"] for line in (tmp_path / "p.timings.jsonl").read_text().splitlines()]
    assert sorted(times) == sorted(sample.id for sample in scenes)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--shard", "5/4"], "there is no shard 5 of 4"),
        (["--out", "whole.txt"], "must end with .jsonl, got whole.txt"),
        (["--out", "whole"], "must end with .jsonl, got whole"),
        (["--shard", "two"], "a shard must be NUMBER/COUNT"),
        (["--device", "cpu,cpu"], "2 devices need as many workers"),
        (["--ray", "local", "--device", "cpu,cpu", "--workers", 2], "Ray assigns its GPUs itself"),
        (["--workers", 2, "--device", "nowhere"], "device"),
    ],
)
def test_an_invalid_executor_is_a_one_line_error(command, samples, tmp_path, arguments, says):
    folder = samples.images.parent / "test"
    base_arguments = ["predict", folder, "--prompter", "oracle", "--segmenter", "tiny", "--out", tmp_path / "p.jsonl"]
    code, _, err = command(*base_arguments, *arguments)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert says in err.splitlines()[-1]


BASELINES = {
    "zero-shot box": ["--mllm", "tiny", "--prompter", "box"],
    "verified points": ["--mllm", "tiny", "--prompter", "verified"],
    "oracle box": ["--prompter", "oracle", "--positive", 0, "--negative", 0],
    "oracle points": ["--prompter", "oracle"],
}


def test_prompters_without_training_run_with_the_same_commands(command, samples, tmp_path):
    folder, answers, numbers = samples.images.parent / "test", {}, {}
    for name, arguments in BASELINES.items():
        file = tmp_path / f"{name}.jsonl"
        assert command("predict", folder, *arguments, "--segmenter", "tiny", "--device", "cpu", "--out", file)[0] == 0
        answers[name] = read_predictions(file)
        numbers[name] = json.loads(command("score", folder, file, "--profile", "rela", "--json")[1])
    assert all(not prompt.points for name in ("zero-shot box", "oracle box") for prompt in prompts(answers[name]))
    verified = [prediction for prediction in answers["verified points"] if prediction.prompts]
    assert all(len(prediction.point_answers) == 9 * len(prediction.prompts) for prediction in verified)
    assert all(prompt.points for prompt in prompts(verified))
    boxes = {prediction.id: [prompt.box for prompt in prediction.prompts] for prediction in answers["zero-shot box"]}
    assert {
        prediction.id: [prompt.box for prompt in prediction.prompts] for prediction in answers["verified points"]
    } == boxes
    assert all(len(prompt.points) == 6 for prompt in prompts(answers["oracle points"]))
    assert [numbers[name]["oracle"] for name in BASELINES] == [0, 0, len(samples), len(samples)]
    gains = numbers["oracle points"]["metrics"]["cIoU"] - numbers["oracle box"]["metrics"]["cIoU"]
    assert gains > 0.05


def prompts(predictions):
    return [prompt for prediction in predictions for prompt in prediction.prompts]


def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(tmp_path):
    """The command itself, with `kill -9`. `benchmarks/killed_predict.py` kills a longer run 20 times."""
    write_scenes(tmp_path / "scenes", "test", 60, Level(objects=(2, 3)))
    arguments = [
        sys.executable,
        "-m",
        "sam4mllm.cli",
        "predict",
        str(tmp_path / "scenes" / "test"),
        "--batch-size",
        "1",
    ]
    arguments += ["--prompter", "oracle", "--segmenter", "grabcut", "--out"]
    subprocess.run([*arguments, tmp_path / "whole.jsonl"], check=True, capture_output=True, cwd=ROOT)
    moments, killed, out = random.Random(0), 0, tmp_path / "out.jsonl"
    for workers in ("1", "2", "1"):
        before = out.stat().st_size if out.exists() else 0
        running = subprocess.Popen([*arguments, out, "--workers", workers], cwd=ROOT, stderr=subprocess.DEVNULL)
        while running.poll() is None and (not out.exists() or out.stat().st_size <= before):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.2))
        running.kill()
        killed += running.wait() == -signal.SIGKILL
    assert killed
    subprocess.run([*arguments, out], check=True, capture_output=True, cwd=ROOT)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_workers_give_one_warning_about_a_model_that_was_not_fine_tuned(samples, tmp_path, caplog, capfd):
    config = PipelineConfig(mllm="tiny", segmenter="tiny", prompter="ppg", device="cpu")
    predict_set(config, samples, tmp_path / "p.jsonl", 2, progress, executor=ProcessPool(2, ("cpu",)))
    assert [record.name for record in caplog.records] == ["sam4mllm.config"]
    assert "not fine-tuned" not in capfd.readouterr().err
