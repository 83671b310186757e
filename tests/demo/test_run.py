"""The demo runs from end to end on the embedded models, and its recipes load."""

import shutil
from dataclasses import replace

import pytest

from sam4mllm.demo.recipe import Demo
from sam4mllm.demo.run import run
from sam4mllm.errors import UserError
from sam4mllm.images.files import read_image
from sam4mllm.runtime.settings import load
from sam4mllm.runtime.specs import EMBEDDED
from tests.paths import ROOT
from tiny_models import sam
from tiny_models.mllm import MllmTraining

RECIPES = ROOT / "recipes" / "tiny"
KINDS = {"demo": Demo, "ppg": Demo, "pqpp": Demo, "mllm": MllmTraining, "sam": sam.SamTraining}
FILES = sorted([*RECIPES.glob("*.yaml"), *(ROOT / "tiny_models" / "recipes").glob("*.yaml")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_recipe_loads(file):
    assert load(file, KINDS[file.stem])


# peft and trl use deprecated property names of transformers
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_demo_writes_tables_and_images_and_repeats_no_step(tmp_path):
    for name in ("mllm", "sam"):
        shutil.copytree(EMBEDDED / name, tmp_path / name)
    places = [f"out={tmp_path / 'out'}", f"mllm={tmp_path / 'mllm'}", f"segmenter={tmp_path / 'sam'}"]
    small = [
        "train_scenes=2",
        "test_scenes=3",
        "training.max_steps=2",
        "training.per_device_train_batch_size=2",
        "search.least=0.0",
        "training.learning_rate=1e-5",
        *(f"longer.{way}={EMBEDDED / way}" for way in ("ppg", "pqpp")),
    ]
    recipe = load(RECIPES / "demo.yaml", Demo, [*places, *small])
    shown = run(recipe)
    assert all(
        shown.count(f"| {name} |") == 2 for name in ("base-ppg", "ppg", "pqpp", "longer-ppg", "longer-pqpp", "oracle")
    )
    assert all(f"- {pair}: " in shown for pair in ("pqpp minus ppg", "longer-ppg minus base-box"))
    assert read_image(tmp_path / "out" / "sheet.png").shape[1] > 1000
    before = (tmp_path / "out" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    assert run(recipe) == shown
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="was started with another recipe"):
        run(replace(recipe, seed=1))
    for file in (tmp_path / "mllm").glob("*.safetensors"):
        file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(UserError, match="or other weights"):
        run(recipe)


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        ("points=5", "points"),
        ("test_scenes=0", "must be 1 or more"),
        ("mllm=nix longer.ppg=null longer.pqpp=null", "unknown MLLM 'nix'"),
        ("mllm=nix", "longer.ppg=null longer.pqpp=null"),
        ("longer.ppg=nix", "no such folder: nix"),
        ("prompters=[box,nix]", "unknown prompter 'nix' in prompters: choose from box, ppg, pqpp"),
        ("segmenter=nix", "unknown segmenter 'nix'"),
        ("training.max_steps=0", "max_steps must be 1 or more"),
        ("seeds=1", "did you mean seed?"),
    ],
)
def test_a_wrong_value_gives_one_error_line_and_writes_nothing(tmp_path, command, slip, says):
    code, _, err = command("demo", f"out={tmp_path / 'out'}", *slip.split())
    assert (code, err.count("\n")) == (2, 1)
    assert says in err
    assert not (tmp_path / "out").exists()
