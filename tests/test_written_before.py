"""Files that version 0.1.0 wrote before its modules were sorted into folders are read, and mean what they meant."""

import math
from pathlib import Path

import pytest

from sam4mllm.config import PipelineConfig
from sam4mllm.data.conversations import read_conversations
from sam4mllm.data.samples import read_samples, write_samples
from sam4mllm.evaluation.attribution import read_breakdowns
from sam4mllm.evaluation.scores import score
from sam4mllm.language.messages import Turn
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.store import read_settings
from sam4mllm.targets.record import read_targets
from tests.paths import ROOT

FILES = ROOT / "tests" / "written_before"
# peft asks transformers for properties by names that it deprecates
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def test_samples_are_read_and_written_as_the_same_bytes(tmp_path):
    samples = read_samples(FILES / "samples")
    assert len(samples) == 9
    assert sum(len(sample.masks) for sample in samples) == 8
    assert all(samples.path(sample).is_file() for sample in samples)
    write_samples(samples, tmp_path / "samples", Path("images"))
    [shard] = (FILES / "samples").glob("*.parquet")
    assert (tmp_path / "samples" / shard.name).read_bytes() == shard.read_bytes()


def test_targets_and_conversations_are_read():
    targets = read_targets(FILES / "targets")
    assert len(targets) == 8
    assert all(target.prompts and target.prompts[0].points for target in targets.values())
    [talk] = read_conversations(FILES / "talks").conversations
    assert talk.turns == (Turn("user", "What is this?"), Turn("assistant", "A scene."))


@pytest.mark.parametrize(("name", "ciou"), [("ppg", 46.06), ("pqpp", 30.58)])
def test_predictions_are_read_written_and_scored_as_they_were(name, ciou):
    file = FILES / f"{name}.jsonl"
    predictions = read_predictions(file)
    assert [one.to_line() for one in predictions] == file.read_text().splitlines()
    scores = score(read_samples(FILES / "samples").samples, predictions, "rela")
    assert round(100 * scores.metrics["cIoU"], 2) == ciou
    assert read_settings(file)["prompter"] == name


def test_a_diagnosis_is_read():
    entries = read_breakdowns(FILES / "pqpp.diagnosis.jsonl")
    assert [one.id for one in entries] == [one.id for one in read_predictions(FILES / "pqpp.jsonl")]
    assert all(abs(math.fsum([one.iou, *one.lost.values()]) - 1) <= 1e-12 for one in entries)
    assert entries[0].iou == 9 / 613
    assert entries[0].lost["loose box"] == -505 / 368413


def test_an_adapter_answers_as_it_did(tmp_path):
    samples = read_samples(FILES / "samples")
    recipe = PipelineConfig("tiny", prompter="pqpp", adapter=str(FILES / "adapter"), device="cpu")
    predict(samples, recipe.build(), tmp_path / "pqpp.jsonl", batch_size=8)
    now, before = (read_predictions(folder / "pqpp.jsonl") for folder in (tmp_path, FILES))
    assert [one.replies for one in now] == [one.replies for one in before]
    assert [one.prompts for one in now] == [one.prompts for one in before]
