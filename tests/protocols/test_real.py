"""From raw files in the official layouts to tables, breakdowns and pages, with oracle prompts and GrabCut."""

from pathlib import Path

import pytest

from sam4mllm.data_prep.convert import convert
from sam4mllm.data_prep.readers import grefcoco, reasonseg, refcoco
from sam4mllm.evaluation.attribution import read_breakdowns
from sam4mllm.prediction.record import read_predictions
from sam4mllm.protocols.gres import GRES
from sam4mllm.protocols.reasonseg import REASONSEG
from sam4mllm.protocols.res import RES
from tests.report.parsed import stands_alone


def readings(real, protocol, raw):
    """The protocol's datasets, read from raw files."""
    if protocol is RES:
        return [refcoco.prepare(real / "refcoco_real", name) for name in refcoco.SPLIT_BY]
    if protocol is REASONSEG:
        return [reasonseg.prepare(real / "reasonseg_format")]
    (raw / "grefcoco").symlink_to(real / "grefcoco_format")
    (raw / "images").symlink_to(real / "refcoco_real" / "images")
    return [grefcoco.prepare(raw)]


@pytest.mark.parametrize(
    ("protocol", "counts"),
    [
        pytest.param(RES, {"refcoco": 24, "refcoco+": 24, "refcocog": 9}, id="refcoco_real"),
        pytest.param(GRES, {"grefcoco": 53}, id="grefcoco_format"),
        pytest.param(REASONSEG, {"reasonseg": 10}, id="reasonseg_format"),
    ],
)
def test_ground_truth_prompts_run_from_raw_files_to_pages(real_data, tmp_path, command, protocol, counts):
    (tmp_path / "raw").mkdir()
    for reading in readings(real_data, protocol, tmp_path / "raw"):
        convert(reading, tmp_path / "raw", tmp_path / "data" / reading.source, True, False, lambda _: None)
    words = ["--samples", tmp_path / "data", "--predictions", tmp_path / "out", "--draws", 50]
    words += ["--predict", "--prompter", "oracle", "--segmenter", "grabcut", "--diagnose"]
    code, shown, err = command("eval", protocol.name, *words)
    assert code == 0, err
    for name, n in counts.items():
        files = [file for file in (tmp_path / "out" / name).glob("*.jsonl") if file.stem.isalnum()]
        assert sum(map(check, files)) == n
    assert shown.count("| lost to | all |") == len(list((tmp_path / "out").rglob("*.html")))


def check(file: Path) -> int:
    """Checks predictions, breakdowns and page of a split; returns the number of predictions."""
    predictions, entries = read_predictions(file), read_breakdowns(file.with_suffix(".diagnosis.jsonl"))
    assert all(one.oracle and one.error is None for one in predictions)
    assert [one.id for one in entries] == [one.id for one in predictions]
    assert all(one.lost.keys() <= {"segmenter"} for one in entries)
    assert stands_alone(file.with_suffix(".html").read_text())
    return len(predictions)
