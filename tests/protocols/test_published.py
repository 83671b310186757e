import pytest
import yaml

from sam4mllm.protocols.gres import GRES
from sam4mllm.protocols.published import FILE, read_published
from sam4mllm.protocols.reasonseg import REASONSEG
from sam4mllm.protocols.res import RES

PROTOCOLS = {protocol.name: protocol for protocol in (RES, GRES, REASONSEG)}


def test_every_published_line_belongs_to_a_protocol_and_fits_it():
    assert yaml.safe_load(FILE.read_text(encoding="utf-8")).keys() == PROTOCOLS.keys()
    assert {name: len(read_published(protocol)) for name, protocol in PROTOCOLS.items()} == {
        "res": 8,
        "gres": 6,
        "reasonseg": 7,
    }


@pytest.mark.parametrize(
    ("protocol", "method", "part", "metric", "value"),
    [
        (RES, "SAM4MLLM-8B (PQPP)", "RefCOCO val", "cIoU", 79.8),
        (RES, "GLaMM-7B", "RefCOCOg test", "cIoU", 74.9),
        (RES, "X-SAM", "RefCOCO+ testB", "cIoU", 74.4),
        (GRES, "SAM4MLLM-8B", "testB", "gIoU", 65.3),
        (GRES, "DeRIS-L", "val", "N_acc", 82.2),
        (REASONSEG, "LISA-7B (ft)", "test", "cIoU", 48.4),
    ],
)
def test_published_scores_are_assigned_to_their_part_and_metric(protocol, method, part, metric, value):
    [line] = [line for line in read_published(protocol) if line.method == method]
    assert line.numbers[part, metric] == value


def test_recalled_scores_are_stored_but_never_returned():
    kept = [line for lines in yaml.safe_load(FILE.read_text(encoding="utf-8")).values() for line in lines]
    from_memory = {line["method"] for line in kept if line["mark"] == "rec"}
    assert from_memory == {"SAM4MLLM-7B (PQPP)", "SAM4MLLM-8B, other reading"}
    assert not from_memory & {line.method for one in PROTOCOLS.values() for line in read_published(one)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mark": "3rd"}, r"a mark \(2nd, rec\)"),
        ({"read": ""}, "its source"),
        ({"bIoU": [1, 2, 3]}, "and metrics"),
        ({"gIoU": [1, 2]}, "zip"),
        ({"gIoU": [0.7, 101, 3]}, "in percent"),
    ],
)
def test_a_line_that_does_not_fit_is_refused(tmp_path, change, says):
    line = {"method": "it", "mark": "2nd", "read": "there", "gIoU": [1, 2, 3], **change}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"gres": [line]}))
    with pytest.raises(ValueError, match=says):
        read_published(GRES, tmp_path / "p.yaml")
