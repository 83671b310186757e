"""The plan of a training, from a model's configuration and processor alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam4mllm.cli.plan_table import Section, format_sections, plan_sections, size_of
from sam4mllm.data.samples import write_samples
from sam4mllm.errors import UserError
from sam4mllm.images.files import write_png
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.runtime.settings import load
from sam4mllm.synthetic import Level, draw_split
from sam4mllm.synthetic.shards import samples_of
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.dataset.rows import TrainingRows
from sam4mllm.training.plan import make_plan
from sam4mllm.training.prepare import read_corpus
from tests import families
from tests.paths import ROOT

# peft uses properties of transformers that are deprecated, and a processor calls np.array on a tensor
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
LORA = ROOT / "recipes" / "lora.yaml"
WORDS = ["mllm=model", "out=out", "data=[{samples: set}]", "rows.per_image=2", "rows.tokens=700"]
WORDS += ["training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=1"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The samples of four scenes of two sizes, and a model's folder without its weights."""
    monkeypatch.chdir(tmp_path)
    samples = []
    for index in range(4):
        drawing = draw_split("train", index, Level(objects=(2, 3)), size=56 * (1 + index % 2))
        write_png(Path(f"images/{index}.png"), drawing.image)
        samples += samples_of(drawing, f"{index}.png", "train")
    write_samples(samples, Path("set"), Path("images"))
    families.build("qwen2_5_vl", Path("model"))
    Path("model/model.safetensors").unlink()
    return tmp_path


def recipe(*overrides: str) -> FinetuneConfig:
    return load(LORA, FinetuneConfig, [*WORDS, *overrides])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def text_of(plan) -> str:
    return format_sections(plan_sections(plan))


def test_a_plan_needs_no_weights_no_images_and_no_gpu_and_writes_nothing(folder):
    for image in Path("images").iterdir():
        image.write_bytes(b"not an image")
    before = files(folder)
    plan = make_plan(recipe("training.quantize=4bit"))
    assert files(folder) == before
    assert plan.dialect == "qwen2.5-vl"
    assert {count.kind for count in plan.rows.rows} == {"ppg", "pqpp"}


@pytest.mark.parametrize("family", ["llava_next", "internvl", "smolvlm", "gemma3", "molmo2", "paligemma"])
def test_planned_rows_have_the_tokens_of_the_training_batches(family, folder):
    shutil.rmtree("model")
    mllm = HfMLLM.load(families.build(family, Path("model")), device="cpu")
    outline, config = HfMLLM.outline("model"), recipe()
    plan = make_plan(config)
    conversations = TrainingRows(read_corpus(config), config.rows, mllm, mllm.lengths)
    for index in range(4):
        tokens = mllm.rows([conversations.row(index)])["input_ids"].shape[1]
        assert plan.rows.tokens[index] + plan.rows.image_tokens[index] == tokens
    assert outline.dialect == mllm.dialect
    assert outline.model.device == torch.device("meta")
    shapes, expected = (
        {name: parameter.shape for name, parameter in model.named_parameters()} for model in (outline.model, mllm.model)
    )
    assert shapes == expected


def test_epochs_and_processes_determine_the_number_of_steps(folder, monkeypatch):
    epochs = ["training.max_steps=null", "training.num_train_epochs=2"]
    by_epochs = make_plan(recipe(*epochs))
    rows = sum(count.rows for count in by_epochs.rows.rows)
    assert by_epochs.steps == pytest.approx(2 * rows / 2, abs=2)  # two rows per step; epochs differ by a few
    assert make_plan(recipe(f"training.max_steps={by_epochs.steps}")) == by_epochs
    assert by_epochs.epochs == pytest.approx(2, abs=0.2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    two_processes = make_plan(recipe(*epochs))
    assert (two_processes.rows_per_step, two_processes.steps) == (4, -(-by_epochs.steps // 2))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mllm=owner/nowhere", "no model 'owner/nowhere': give a folder or a name on the hub"),
        ("mllm=replay:said.jsonl", "is not a transformers model and cannot be trained"),
        ("data.0.samples=nowhere", "nowhere is not a samples folder"),
        ("rows.tokens=5", "longer than 5 tokens"),
        ("training.lora.target_modules=[nothing]", "no linear layer of the language model matches 'nothing'"),
        ("chat_template=nowhere", "cannot read the chat template nowhere"),
        ("training.report_to=[tensorbord]", "unknown training.report_to 'tensorbord'"),
        ("validation={samples: nowhere, segmenter: grabcut}", "nowhere is not a samples folder"),
        ("validation={samples: set, segmenter: grabcat}", "did you mean grabcut"),
        ("validation={samples: set, segmenter: grabcut, images: nowhere}", "no such file: nowhere"),
    ],
    ids=lambda value: value.split("=")[0] if "=" in value else "",
)
def test_values_that_are_not_valid_are_refused(folder, override, message):
    Path("said.jsonl").write_text('{"id": "a", "replies": ["none"]}\n')
    with pytest.raises(UserError, match=message):
        make_plan(recipe(override))


def test_the_text_contains_all_values_of_the_plan(folder):
    plan = make_plan(recipe())
    lines = text_of(plan).splitlines()
    assert f"  steps                   {plan.steps:,}" in lines
    assert any(f"{sum(count.rows for count in plan.rows.rows if count.kind == 'ppg')}" in line for line in lines)
    totals = [sum(pair) for pair in zip(plan.rows.tokens, plan.rows.image_tokens, strict=True)]
    assert any(line.split() == ["most", f"{max(totals):,}"] for line in lines)
    assert any(", ".join(plan.rows.longest[0].ids[:3]) in line for line in lines)
    assert f"  peak                                {size_of(plan.shape.memory.peak, plan.shape.memory.peak)}" in lines
    bars = [line.split() for line in lines if "#" in line]
    assert sum(int(bar[-1].replace(",", "")) for bar in bars) == len(totals)
    assert max(len(bar[-2]) for bar in bars) == 40
    for left_out in plan.rows.left_out:
        assert any(left_out.reason in line and left_out.ids[0] in line for line in lines)
    pictures = plan.rows.image_tokens
    assert len(set(pictures)) > 1
    assert f"rows: {min(pictures)} to {max(pictures)} image tokens per row" in text_of(plan)
    equal = replace(plan, rows=replace(plan.rows, image_tokens=(7,) * len(pictures)))
    assert "rows: 7 image tokens per row" in text_of(equal)


@pytest.mark.parametrize(
    ("size", "largest", "text"),
    [(2**30, 2**30, "1.00 GiB"), (2**29, 2**30, "0.50 GiB"), (2**29, 2**29, "512.0 MiB"), (0, 2**20, "0.0 MiB")],
)
def test_the_sizes_of_a_column_have_one_unit(size, largest, text):
    assert size_of(size, largest) == text


def test_columns_are_aligned_and_an_empty_section_has_its_note():
    sections = [Section("A", ("x", "long head"), (("1", "2"), ("333", "4"))), Section("B", ("x",), (), "Nothing.")]
    assert format_sections(sections) == "A\n  x    long head\n  1    2\n  333  4\n\nB\n  Nothing.\n"


def test_validation_samples_that_use_training_images_are_counted(folder):
    validation = "validation={samples: set, segmenter: grabcut, count: 5}"
    plan = make_plan(recipe(validation))
    assert (plan.validation, len(plan.known)) == (5, 5)
    assert f"  on training images      5: {', '.join(plan.known[:3])} ...\n" in text_of(plan)
    shutil.copytree("images", "others")
    plan = make_plan(recipe(validation.replace("}", ", images: others}"), "rows.tokens=5000"))
    assert (plan.validation, plan.known) == (5, ())
    assert "  validation samples      5\n" in text_of(plan)
    assert "on training images" not in text_of(plan)
    assert text_of(plan).endswith("Left out\n  Nothing is left out.\n")


def test_the_command_prints_tables_or_json(folder, command):
    before, plan = files(folder), make_plan(recipe())
    words = ["finetune", LORA, *WORDS, "--plan"]
    assert command(*words)[:2] == (0, text_of(plan))
    code, out, _ = command(*words, "--json")
    assert (code, json.loads(out)) == (0, json.loads(json.dumps(plan.to_json())))
    assert json.loads(out)["shape"]["memory"]["peak"] == plan.shape.memory.peak
    assert files(folder) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json"], "error: --json prints a plan: add --plan"),
        (["--plan", "--resume"], "error: --plan and --resume exclude each other: remove one of them"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder, command, words, message):
    code, out, err = command("finetune", LORA, *WORDS, *words)
    assert (code, out, err.splitlines()[-1]) == (2, "", message)


def test_on_a_terminal_sections_are_tables(capsys, monkeypatch):
    from sam4mllm.cli import terminal

    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True, raising=False)
    terminal.show([Section("Rows", ("source", "rows"), (("set", "3"),), "A note.")])
    out = capsys.readouterr().out
    assert all(word in out for word in ("Rows", "source", "set", "A note.", "─"))
