"""Another package adds an MLLM, a prompter and a segmenter: by entry points, or named as module:Class."""

import json
import sys
from pathlib import Path

import pytest

from sam4mllm.config import PipelineConfig
from sam4mllm.mllm.adapter_card import AdapterCard
from sam4mllm.prediction.record import read_predictions
from sam4mllm.synthetic import Level
from sam4mllm.synthetic.shards import write_scenes
from tests.running import invoke

MODULE = '''
import numpy as np

from sam4mllm import Box, Point, Prompt, ScriptedMLLM
from sam4mllm.mllm import ChatCapabilities
from sam4mllm.prompters import Prompting
from sam4mllm.segmenters import Capabilities, ScoredMask


class Silent:
    """An MLLM that finds nothing, and takes an argument after its name."""

    def __new__(cls, reply="none"):
        return ScriptedMLLM(lambda *_: reply)


class Mute:
    """An MLLM without option probabilities."""

    capabilities = ChatCapabilities(choose=False)
    dialect = ScriptedMLLM(lambda *_: "none").dialect

    def open(self, images, keys=()):
        return ScriptedMLLM(lambda *_: "none").open(images, keys)


class Middle:
    """A prompter: the middle half of the image, without a question."""

    def __init__(self, mllm, share=0.5):
        self.share = share

    def __call__(self, queries):
        promptings = []
        for query in queries:
            height, width = query.image.shape[:2]
            edge = (1 - self.share) / 2
            box = Box(edge * width, edge * height, (1 - edge) * width, (1 - edge) * height)
            promptings.append(Prompting((Prompt(box),)))
        return promptings


class Ellipse:
    """A segmenter that fills the ellipse of a box."""

    capabilities = Capabilities(points=False, negative_points=False)

    def embed(self, image):
        return Scene(image.shape[:2])


class Child(Ellipse):
    """Inherits its capabilities."""


def points(mllm, **options):
    """A prompter with any options: one point in the middle, without a box."""

    def prompt(queries):
        middle = [(query.image.shape[1] / 2, query.image.shape[0] / 2) for query in queries]
        return [Prompting((Prompt(None, (Point(x, y),)),)) for x, y in middle]

    return prompt


class Scene:
    def __init__(self, size):
        self.size = size

    def segment(self, prompts):
        rows, columns = np.indices(self.size) + 0.5
        masks = []
        for prompt in prompts:
            x0, y0, x1, y1 = prompt.box.xyxy
            x = (columns - (x0 + x1) / 2) / ((x1 - x0) / 2)
            y = (rows - (y0 + y1) / 2) / ((y1 - y0) / 2)
            masks.append(ScoredMask(x**2 + y**2 <= 1, 1.0))
        return masks
'''
ENTRY_POINTS = """[sam4mllm.mllms]
silent = my_plugin:Silent
[sam4mllm.prompters]
middle = my_plugin:Middle
broken = my_plugin:Missing
[sam4mllm.segmenters]
ellipse = my_plugin:Ellipse
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch) -> Path:
    """A working folder with samples, in which the package is installed."""
    site = tmp_path / "site"
    info = site / "my_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "my_plugin.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "my_plugin", raising=False)
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "scenes", "test", 2, Level(objects=(1, 1)))
    return tmp_path


def predict(samples: Path, mllm: str, prompter: str, segmenter: str, *more: str):
    words = ["--mllm", mllm, "--prompter", prompter, "--segmenter", segmenter, "--out", "p.jsonl"]
    return invoke("predict", samples, *words, *more)


@pytest.fixture
def samples(plugin) -> Path:
    [index] = plugin.glob("scenes/**/dataset.json")
    return index.parent


@pytest.mark.parametrize(
    "names",
    [("silent", "middle", "ellipse"), tuple(f"my_plugin:{name}" for name in ("Silent", "Middle", "Ellipse"))],
    ids=["entry points", "module:Class"],
)
def test_a_package_adds_one_of_each(samples, names):
    result = predict(samples, *names)
    assert result.exit_code == 0, result.stderr
    predictions = list(read_predictions(Path("p.jsonl")))
    assert all(len(prediction.prompts) == 1 and prediction.mask.area > 100 for prediction in predictions)
    settings = json.loads(Path("p.settings.json").read_text())
    assert (settings["mllm"], settings["prompter"], settings["segmenter"]) == names


def test_text_after_the_name_is_its_first_argument(samples):
    result = predict(samples, "silent:[100,100,900,900]", "box", "ellipse")
    assert result.exit_code == 0, result.stderr
    assert {len(prediction.prompts) for prediction in read_predictions(Path("p.jsonl"))} == {1}
    assert predict(samples, "my_plugin:Silent:[100,100,900,900]", "box", "box", "--retry-failed").exit_code == 2


def test_points_without_a_box_count_as_predictions_with_a_mask(samples):
    result = predict(samples, "silent", "my_plugin:points", "tiny", "--points", "9")
    assert result.exit_code == 0, result.stderr
    count = len(list(read_predictions(Path("p.jsonl"))))
    assert f"{count} predictions: {count} with a mask, 0 without a target, 0 unreadable, 0 failed" in result.stderr


def test_a_folder_with_the_name_of_an_embedded_model_does_not_replace_it(samples):
    AdapterCard("5f2c", "tiny", "tiny", prompters={"ppg": {}}).write(Path("tiny"))
    assert PipelineConfig("tiny", "tiny").resolved().prompter == "box"


def test_a_module_in_the_working_folder_is_found(samples):
    Path("local_plugin.py").write_text(MODULE)
    assert predict(samples, "local_plugin:Silent", "box", "grabcut").exit_code == 0


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("silent", "ppg", "ellipse"), (), "ellipse takes no points, but the prompter ppg generates them"),
        (("my_plugin:Mute", "pqpp", "tiny"), (), "my_plugin:Mute gives no option probabilities, but the prompter pqpp"),
        (("silent", "broken", "ellipse"), (), "broken cannot be imported: module 'my_plugin' has no attribute"),
        (("silent", "my_plugin:Missing", "ellipse"), (), "my_plugin:Missing cannot be imported"),
        (("silent", "middle", "raising:Any"), (), "raising:Any cannot be imported: not today"),
        (
            ("silent", "ppg", "my_plugin:Child"),
            (),
            "my_plugin:Child takes no points, but the prompter ppg generates them",
        ),
        (("silent", "nowhere:Missing", "ellipse"), (), "unknown prompter 'nowhere:Missing'"),
        (("silent", "midle", "ellipse"), (), "did you mean middle"),
        (("silent", "middle", "ellipse"), ("--points", "9"), "no option 'points'; it takes share"),
        (("silent", "middle", "ellipse"), ("--attention", "sdpa"), "the MLLM silent does not support attention"),
        (("silent", "middle", "ellipse"), ("--single-mask",), "the segmenter ellipse does not support single-mask"),
    ],
)
def test_what_cannot_work_is_one_line_before_anything_is_loaded(samples, names, options, message):
    Path("raising.py").write_text('raise RuntimeError("not today")')
    result = predict(samples, *names, *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not Path("p.jsonl").exists()
