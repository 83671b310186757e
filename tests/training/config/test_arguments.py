"""`training` accepts the arguments of `SFTConfig`, and `lora` those of `LoraConfig`, by their names."""

import subprocess
import sys
from dataclasses import fields

import pytest
import yaml

from sam4mllm.errors import UserError
from sam4mllm.runtime.settings import load
from sam4mllm.training.config import arguments
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.config.training import Lora, Training
from sam4mllm.training.trainer import sft_config
from tests.paths import ROOT
from tests.training.library_arguments import KINDS, listed, normal, written

LORA = ROOT / "recipes" / "lora.yaml"
OWN = {"lora", "quantize", "projector"}


@pytest.mark.parametrize(("name", "own", "library"), KINDS)
def test_the_list_is_that_of_the_installed_library(name, own, library):
    """After an update of the library, run `python -m tests.training.library_arguments`."""
    assert written(getattr(arguments, name)) == normal(listed(own, library))


@pytest.mark.parametrize(("name", "own", "library"), KINDS)
def test_each_argument_is_accepted_or_refused_by_name(name, own, library):
    taken, known = {field.name for field in fields(own)}, {field.name for field in fields(library)}
    assert taken - OWN <= known
    assert known == (taken - OWN) | (known & own.RENAMED.keys()) | own.REFUSED.keys()
    assert not taken & {*own.RENAMED, *own.REFUSED}
    assert set(own.RENAMED.values()) <= taken


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.batch=1", "training.batch is now training.per_device_train_batch_size"),
        ("training={steps: 3, keep: 2}", "steps is now training.max_steps; training.keep is now training.save_total"),
        ("training.lora.rank=4", "training.lora.rank is now training.lora.r"),
        ("training.activation_checkpointing=true", "is now training.gradient_checkpointing"),
        ("held_out=null", "held_out is now validation"),
        ("training.output_dir=here", "training.output_dir cannot be set: checkpoints are written below"),
        (
            "training.packing=true",
            "training.packing cannot be set: the package packs the rows itself, and cutting a row would lose",
        ),
        ("training.lora.task_type=CAUSAL_LM", "training.lora.task_type cannot be set: the adapter is attached"),
        ("training.lora.bias=all", "training.lora.bias cannot be set: the base keeps its weights"),
        ("training.lora.init_lora_weights=pissa", "must be one of True, False, gaussian, orthogonal, got 'pissa'"),
        ("training.lora.r8=4", "unknown recipe key training.lora.r8: "),
        ("training.optim=adamw_touch", "got 'adamw_touch': did you mean adamw_torch?"),
        ("training.lr_scheduler_type=greedy", "lr_scheduler_type must be a schedule that needs no evaluation set"),
        ("training.num_train_epochs=2", "set either training.max_steps or training.num_train_epochs"),
    ],
)
def test_other_names_and_values_are_refused_in_one_line(override, message):
    with pytest.raises(UserError) as raised:
        load(LORA, FinetuneConfig, [override])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([LORA, "training.adam_beta3=2"], "unknown recipe key training.adam_beta3: did you mean adam_beta2?"),
        ([LORA, "training.steps=2"], "training.steps is now training.max_steps"),
        (["nowhere.yaml"], "no such recipe: nowhere.yaml"),
    ],
)
def test_a_mistake_is_reported_before_heavy_imports(words, message):
    code = f"""
import sys
from sam4mllm.cli import main
try:
    main(["finetune", *{list(map(str, words))!r}])
finally:
    print(sorted({{"torch", "transformers", "peft", "trl"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_values_of_a_recipe_are_passed_to_the_library(tmp_path):
    values = ["optim=adafactor", "lr_scheduler_type=polynomial", "lr_scheduler_kwargs={power: 2}", "weight_decay=0"]
    values += ["gradient_checkpointing_kwargs={use_reentrant: no}", "save_steps=0.25", "report_to=none", "bf16=false"]
    recipe = load(LORA, FinetuneConfig, [f"training.{value}" for value in values])
    args = sft_config(recipe.training, tmp_path, on_cpu=True)
    assert (args.optim, args.lr_scheduler_type, args.lr_scheduler_kwargs) == ("adafactor", "polynomial", {"power": 2})
    assert (args.activation_checkpointing, args.activation_checkpointing_kwargs) == (True, {"use_reentrant": False})
    assert (args.save_steps, args.report_to, args.weight_decay, args.per_device_train_batch_size) == (0.25, [], 0, 1)
    assert (args.max_length, args.remove_unused_columns, args.save_total_limit) == (None, False, None)


def test_values_that_the_library_refuses_give_one_error_line(tmp_path):
    training = Training(max_steps=1, dataloader_prefetch_factor=2)
    with pytest.raises(UserError, match="SFTConfig refuses the values of training: --dataloader_prefetch_factor"):
        sft_config(training, tmp_path, on_cpu=True)


def test_a_written_recipe_has_the_values_that_differ_and_is_read_back(tmp_path):
    config = load(LORA, FinetuneConfig, ["training.lora.use_rslora=true", "training.adam_beta2=0.95"])
    values = config.to_yaml()
    assert values["training"]["lora"] == {
        **{"r": 16, "lora_alpha": 32, "target_modules": None, "init_lora_weights": True, "projector": "lora"},
        **{"lora_dropout": 0.05, "use_rslora": True},
    }
    assert values["training"]["adam_beta2"] == 0.95
    assert "adam_beta1" not in values["training"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert load(tmp_path / "recipe.yaml", FinetuneConfig) == config


def test_both_ways_to_name_reports_are_the_same():
    for names in ("tensorboard", ("tensorboard",)):
        assert Training(max_steps=1, report_to=names).reports == ("tensorboard",)


def test_lora_arguments_are_those_that_differ():
    assert Lora(r=4, use_dora=True).library_arguments() == {
        **{"r": 4, "lora_alpha": 32, "init_lora_weights": True, "use_dora": True}
    }
