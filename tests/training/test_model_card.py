"""The model card: front matter that the hub reads, and only figures that were logged."""

import re

import pytest
import yaml

from sam4mllm.mllm.adapter_card import AdapterCard
from sam4mllm.training.model_card import model_card

CARD = AdapterCard("5f2c", "sam4mllm", "owner/name", data={"set/dataset.json": "9a41"}, versions={"peft": "0.21"})
HISTORY = [
    {"loss": 2.0, "step": 1},
    {"validation_cIoU": 0.75, "step": 1},
    {"loss": 1.5, "step": 2},
    {"validation_cIoU": 0.5, "validation_box": 0.75, "step": 2},
    {"train_loss": 9.0, "step": 2},
]


@pytest.mark.parametrize(("adapter", "library"), [(True, "peft"), (False, "transformers")])
def test_the_front_matter_has_the_fields_of_the_hub(adapter, library):
    text = model_card(CARD, [], adapter, recipe=False)
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["base_model"] == "owner/name"
    assert front["library_name"] == library
    assert front["pipeline_tag"] == "image-segmentation"
    assert ("lora" in front["tags"]) is adapter
    assert f"{'--adapter' if adapter else '--mllm'} THIS_FOLDER" in text


def test_the_last_figures_are_listed_with_their_steps():
    text = model_card(CARD, HISTORY, adapter=True, recipe=True)
    for line in (
        "| loss, step 2 | 1.5000 |",
        "| validation: cIoU, step 2 | 0.5000 |",
        "| validation: box, step 2 | 0.7500 |",
        "| validation: highest cIoU, step 1 (`checkpoints/checkpoint-1`) | 0.7500 |",
        "sam4mllm finetune THIS_FOLDER/recipe.yaml",
    ):
        assert line in text
    assert "2.0000" not in text
    assert "9.0" not in text
    assert "| set/dataset.json | 9a41 |" in text
    assert "| peft | 0.21 |" in text


def test_scores_with_other_settings_are_not_the_highest():
    history = [{**entry, "asked": {"segmenter": str(entry["step"])}} for entry in HISTORY]
    text = model_card(CARD, history, adapter=True, recipe=True)
    assert "| validation: highest cIoU, step 2 (`checkpoints/checkpoint-2`) | 0.5000 |" in text
    assert "step 1" not in text


@pytest.mark.parametrize(("base", "name"), [("/home/me/models/my-model", "my-model"), ("tiny", "tiny")])
def test_a_local_base_appears_by_its_folder_name(base, name):
    text = model_card(AdapterCard("5f2c", "sam4mllm", base), [], adapter=True, recipe=True)
    assert f"# `{name}` for referring expression segmentation" in text
    assert "base_model" not in text
    assert "/home" not in text


def test_unknown_values_are_left_out():
    text = model_card(AdapterCard("5f2c", "sam4mllm"), [], adapter=True, recipe=False)
    assert not re.search("base_model|Training log|Training data|recipe.yaml", text)


def test_an_absolute_path_of_the_data_is_shortened():
    card = AdapterCard("5f2c", "sam4mllm", "owner/name", data={"/home/me/data/refcoco/train/dataset.json": "9a41"})
    text = model_card(card, [], adapter=True, recipe=True)
    assert "| refcoco/train/dataset.json | 9a41 |" in text
    assert "/home" not in text
