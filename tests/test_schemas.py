"""What `predict` and `infer` write, and the cards of trained models, follow the schemas of the documentation."""

import json

import jsonschema
import numpy as np
import PIL.Image
import pytest

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import read_image
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.infer import infer
from sam4mllm.prediction.requests import parse_request
from sam4mllm.prompters.oracle import Oracle
from sam4mllm.prompters.pqpp import PQPP
from sam4mllm.runtime.specs import EMBEDDED
from sam4mllm.segmenters.grabcut import GrabCutSegmenter
from tests import schemas
from tests.paths import ROOT

SIZE = 48, 64
REPLIES = {"one": "[100,100,800,800]", "two": "[0,0,400,900] [500,0,999,900]", "none": "none", "odd": "I see."}
MASK = np.zeros(SIZE, dtype=bool)
MASK[10:30, 10:40] = True


@pytest.fixture
def samples(tmp_path) -> SampleSet:
    """One sample for each of the replies, and one without its image."""
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "photo.png")
    names = {**dict.fromkeys(REPLIES, "photo.png"), "failed": "missing.png"}
    masks = (Rle.from_mask(MASK),)
    return SampleSet(tuple(Sample(name, image, 64, 48, "cup", masks) for name, image in names.items()), tmp_path)


def mllm() -> ScriptedMLLM:
    return ScriptedMLLM(lambda key, *_: REPLIES[key], lambda key, *_: (0.9, 0.1))


@pytest.mark.parametrize("name", [path.name.split(".")[0] for path in sorted(schemas.FOLDER.iterdir())])
def test_a_schema_is_one_and_explains_itself(name):
    schema = json.loads((schemas.FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("prompter", [PQPP(mllm(), points=4), None], ids=["pqpp", "oracle"])
def test_predictions_follow_their_schema(samples, tmp_path, prompter):
    out = tmp_path / "out.jsonl"
    predict(samples, Pipeline(prompter or Oracle.of(samples), GrabCutSegmenter()), out)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    for record in records:
        schemas.check("prediction", record)
    assert [record["id"] for record in records if record["error"]] == ["failed"]
    assert any(record["asked"] for record in records) is (prompter is not None)
    assert all(record.get("oracle", False) is (prompter is None) for record in records if not record["error"])


@pytest.mark.parametrize("file", ["ppg.jsonl", "pqpp.jsonl"])
def test_predictions_of_earlier_versions_follow_it_too(file):
    for line in (ROOT / "tests" / "written_before" / file).read_text().splitlines():
        schemas.check("prediction", json.loads(line))


def test_points_without_a_box_have_a_place_in_it():
    line = (ROOT / "tests" / "written_before" / "pqpp.jsonl").read_text().splitlines()[0]
    schemas.check("prediction", {**json.loads(line), "prompts": [{"box": None, "points": [[3.5, 4.0, 1]]}]})


def test_records_of_infer_follow_their_schema(samples, tmp_path):
    photo = samples.images / "photo.png"
    assert read_image(photo).shape == (*SIZE, 3)
    replies = [{"id": f"photo-{name}", "replies": [reply]} for name, reply in REPLIES.items()]
    (tmp_path / "replies.jsonl").write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    by_model = PipelineConfig(segmenter="box", mllm=f"replay:{tmp_path / 'replies.jsonl'}", prompter="box")
    by_hand = parse_request([photo], boxes=["5,5,40,40"], clicks=["10,10,+", "35,35,-"])
    out = tmp_path / "out"
    list(infer(by_model, parse_request([photo], list(REPLIES)), out, 2))
    list(infer(PipelineConfig(segmenter="grabcut"), by_hand, out, 1))
    written = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    assert len(written) == len(REPLIES) + 1
    for record in written:
        schemas.check("infer-record", record)


@pytest.mark.parametrize("folder", [EMBEDDED / "ppg", EMBEDDED / "pqpp", ROOT / "tests" / "written_before" / "adapter"])
def test_cards_of_trained_models_follow_their_schema(folder):
    schemas.check("adapter-card", json.loads((folder / "sam4mllm.json").read_text()))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("prediction", {"version": 2}),
        ("prediction", {"asked": [[0, 1.0, 1.0, 1.5]]}),
        ("prediction", {"prompts": [{"box": [0, 0, 1], "points": []}]}),
        ("prediction", {"prompts": [{"box": [0, 0, 1, 1], "points": [[0, 0, 2]]}]}),
        ("prediction", {"mask": []}),
        ("infer-record", {}),
    ],
)
def test_other_records_do_not(name, change):
    line = (ROOT / "tests" / "written_before" / "pqpp.jsonl").read_text().splitlines()[0]
    with pytest.raises(jsonschema.ValidationError):
        schemas.check(name, {**json.loads(line), **change})
