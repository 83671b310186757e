"""Each recipe and its commands load, and each trains a small random model of its class for two steps."""

import json
import re
import shlex
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from safetensors.torch import load_file

from sam4mllm.data.samples import write_samples
from sam4mllm.images.files import write_png
from sam4mllm.runtime.settings import load
from sam4mllm.synthetic import Level, draw_split
from sam4mllm.synthetic.shards import samples_of
from sam4mllm.training.config.finetune import FinetuneConfig
from tests import families
from tests.paths import ROOT

# peft and trl use deprecated property names of transformers
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # a processor of transformers calls np.array on a tensor, and torch's tensors do not know numpy's new keyword
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
RECIPES = ROOT / "recipes"
CLASSES = {
    "lora": "qwen2_5_vl",
    "llava-next-8b_pqpp": "llava_next",
    "llava-next-8b_ppg": "llava_next",
    "qwen2.5-vl-7b_ppg": "qwen2_5_vl",
    "qwen2.5-vl-7b_pqpp": "qwen2_5_vl",
    "qwen2.5-vl-7b_ppg_pqpp_24gb": "qwen2_5_vl",
    "qwen3-vl-8b_ppg_pqpp": "qwen3_vl",
    "internvl3-8b_ppg_pqpp": "internvl",
    "smolvlm2_ppg_pqpp": "smolvlm",
    "gemma3_ppg_pqpp": "gemma3",
    "paligemma2_ppg_pqpp": "paligemma",
    "molmo2_ppg_pqpp": "molmo2",
}
TUNING = sorted(CLASSES)
ELSEWHERE = {"fsdp"}  # the last test of this file; those in tiny/ have theirs in tests/demo
SMALL = ["mllm=model", "out=out", "data=[{samples: set}]", "dtype=float32", "training.bf16=false"]
SMALL += [
    "training.num_train_epochs=null",
    "training.max_steps=2",
    "training.per_device_train_batch_size=2",
    "training.gradient_accumulation_steps=1",
]
SMALL += ["training.quantize=null", "rows.asked={mean: 2, deviation: 0}"]


def path(name: str) -> Path:
    return RECIPES / f"{name}.yaml"


def test_every_recipe_is_tested():
    names = {file.stem for file in RECIPES.glob("*.yaml")}
    assert names == {*CLASSES, *ELSEWHERE}


def commands(name: str) -> list[list[str]]:
    """The commands in a recipe's head comment; an indented line continues the one before."""
    head = re.sub(r"\n#   ", " ", path(name).read_text(encoding="utf-8").split("\n\n")[0])
    lines = re.findall(r"(?:sam4mllm|-m sam4mllm\.cli) finetune (recipes/\S+\.yaml[^;\n]*)", head)
    return [[argument for argument in shlex.split(line) if not argument.startswith("--")] for line in lines]


@pytest.mark.parametrize("name", TUNING)
def test_the_commands_of_a_recipe_load(name, monkeypatch):
    monkeypatch.chdir(RECIPES.parent)
    recipe_commands = commands(name)
    assert [f"recipes/{name}.yaml"] in recipe_commands
    assert any(len(arguments) > 1 for arguments in recipe_commands), "no command has an override"
    for file, *overrides in recipe_commands:
        assert load(Path(file), FinetuneConfig, overrides)


@pytest.mark.parametrize("name", TUNING)
def test_a_recipe_has_targets_only_if_it_trains_ppg(name):
    recipe = load(path(name), FinetuneConfig)
    assert recipe.rows.mixture.ppg or not any(source.targets for source in recipe.data)


@pytest.mark.parametrize("name", sorted({*CLASSES} - {"lora"}))
def test_a_recipe_says_that_its_weights_were_not_run(name):
    assert "Not run with these weights" in path(name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder of samples, and a function that builds a model of each class once."""
    root = tmp_path_factory.mktemp("built")
    samples = []
    for index in range(2):
        drawing = draw_split("train", index, Level(objects=(2, 3)), size=64)
        write_png(root / f"images/{index}.png", drawing.image)
        samples += samples_of(drawing, f"{index}.png", "train")
    write_samples(samples, root / "set", root / "images")

    def model(family: str) -> Path:
        return root / family if (root / family).is_dir() else families.build(family, root / family)

    return root, model


@pytest.fixture
def beside(built, tmp_path, monkeypatch):
    """Makes a working folder with the samples, the recipes, and a model of a class as ``model``."""
    root, model = built

    def placed(family: str) -> None:
        monkeypatch.chdir(tmp_path)
        for name, target in (
            ("set", root / "set"),
            ("images", root / "images"),
            ("recipes", RECIPES),
            ("model", model(family)),
        ):
            Path(name).symlink_to(target)

    return placed


@pytest.mark.parametrize("name", TUNING)
def test_a_recipe_trains_a_small_model_of_its_class(name, beside, command):
    beside(CLASSES[name])
    code, out, err = command("finetune", path(name), *SMALL)
    assert (code, out.splitlines()[-1:]) == (0, ["written to out"]), err
    learned = load_file("out/adapter_model.safetensors")
    assert any(weights.any() for name, weights in learned.items() if "lora_B" in name)
    card = json.loads(Path("out/sam4mllm.json").read_text())
    recipe = load(path(name), FinetuneConfig)
    weights = recipe.rows.mixture
    assert list(card["prompters"]) == [prompter for prompter in ("ppg", "pqpp") if getattr(weights, prompter)]
    assert card["prompters"].get("pqpp", {}) == (recipe.pqpp.set_options if weights.pqpp else {})


def test_a_model_without_a_chat_template_is_trained_and_run_with_that_of_the_recipe(beside, command):
    beside("paligemma")
    Path("bare").mkdir()
    for file in Path("model").iterdir():
        if file.name != "chat_template.jinja":
            (Path("bare") / file.name).symlink_to(file.resolve())
    words = ["finetune", path("paligemma2_ppg_pqpp"), *SMALL, "mllm=bare"]
    code, _, err = command(*words, "chat_template=null")
    assert (code, err.splitlines()[-1].startswith("error: the model has no chat template")) == (2, True)
    code, _, err = command(*words, "chat_template=nowhere")
    assert (code, err.splitlines()[-1].startswith("error: cannot read the chat template nowhere")) == (2, True)
    assert command(*words)[0] == 0
    point_answers = ["infer", "images/0.png", "--phrase", "the disc", "--segmenter", "grabcut", "--json"]
    code, out, _ = command(*point_answers, "--adapter", "out")
    assert code == 0
    assert command("merge", "out", "--out", "merged")[0] == 0
    assert command(*point_answers, "--mllm", "merged")[:2] == (0, out)
    # in the tests, the model has a template of the same form
    assert command(*point_answers, "--mllm", "model", "--adapter", "out")[:2] == (0, out)


def test_the_launcher_reads_the_fsdp_configuration():
    config = load_config_from_file(str(path("fsdp")))
    assert (config.distributed_type, config.fsdp_config["fsdp_version"]) == ("FSDP", 2)
    assert set(config.fsdp_config) <= vars(launch_command_parser().parse_args(["script"])).keys()
