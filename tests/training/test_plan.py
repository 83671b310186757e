"""What a training will be, told from a model's configuration and processor alone."""

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
from sam4mllm.training.plan import make_plan
from tests import families
from tests.paths import ROOT

# peft asks transformers for properties by names that it deprecates, and a processor calls np.array on a tensor
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
LORA = ROOT / "recipes" / "lora.yaml"
WORDS = ["mllm=model", "out=out", "data=[{samples: set}]", "rows.per_image=2", "rows.tokens=700"]
WORDS += ["training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=1"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The samples of four scenes of two sizes, and a model's folder from which the weights are gone."""
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


def there(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_needs_no_weights_and_no_gpu_reads_no_picture_and_writes_nothing(folder):
    for picture in Path("images").iterdir():
        picture.write_bytes(b"no picture")
    before = there(folder)
    plan = make_plan(recipe("training.quantize=4bit"))
    assert there(folder) == before
    assert plan.dialect == "qwen2.5-vl"
    assert {one.kind for one in plan.rows.rows} == {"ppg", "pqpp"}


@pytest.mark.parametrize("family", ["llava_next", "internvl", "smolvlm", "gemma3", "molmo2", "paligemma"])
def test_its_rows_have_the_tokens_that_a_training_is_fed(family, folder):
    shutil.rmtree("model")
    mllm = HfMLLM.load(families.build(family, Path("model")), device="cpu")
    outline = HfMLLM.outline("model")
    plan = make_plan(recipe())
    from sam4mllm.training.dataset.rows import TrainingRows
    from sam4mllm.training.prepare import read_corpus

    given = recipe()
    conversations = TrainingRows(read_corpus(given), given.rows, mllm, mllm.lengths)
    for index in range(4):
        fed = mllm.rows([conversations.row(index)])["input_ids"].shape[1]
        assert plan.rows.tokens[index] + plan.rows.pictures[index] == fed
    assert outline.dialect == mllm.dialect
    assert outline.model.device == torch.device("meta")
    assert {n: p.shape for n, p in outline.model.named_parameters()} == {
        n: p.shape for n, p in mllm.model.named_parameters()
    }


def test_steps_and_epochs_say_the_same(folder):
    by_epochs = make_plan(recipe("training.max_steps=null", "training.num_train_epochs=2"))
    rows = sum(one.rows for one in by_epochs.rows.rows)
    assert by_epochs.steps == pytest.approx(2 * rows / 2, abs=2)  # two conversations a step; epochs differ by a few
    by_steps = make_plan(recipe(f"training.max_steps={by_epochs.steps}"))
    assert by_steps == by_epochs
    assert by_epochs.epochs == pytest.approx(2, abs=0.2)


def test_several_processes_share_an_epoch(folder, monkeypatch):
    one = make_plan(recipe("training.max_steps=null", "training.num_train_epochs=2"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    two = make_plan(recipe("training.max_steps=null", "training.num_train_epochs=2"))
    assert (two.rows_per_step, two.steps) == (4, -(-one.steps // 2))


@pytest.mark.parametrize(
    ("override", "says"),
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
def test_what_cannot_be_planned_is_refused(folder, override, says):
    Path("said.jsonl").write_text('{"id": "a", "replies": ["none"]}\n')
    with pytest.raises(UserError, match=says):
        make_plan(recipe(override))


def test_the_page_is_plain_lines_and_names_all_that_the_plan_holds(folder):
    plan = make_plan(recipe())
    lines = format_sections(plan_sections(plan)).splitlines()
    assert f"  steps                   {plan.steps:,}" in lines
    assert any(f"{sum(one.rows for one in plan.rows.rows if one.kind == 'ppg')}" in line for line in lines)
    whole = [sum(pair) for pair in zip(plan.rows.tokens, plan.rows.pictures, strict=True)]
    assert any(line.split() == ["most", f"{max(whole):,}"] for line in lines)
    assert any(", ".join(plan.rows.longest[0].ids[:3]) in line for line in lines)
    assert f"  peak                                {size_of(plan.shape.memory.peak, plan.shape.memory.peak)}" in lines
    bars = [line.split() for line in lines if "#" in line]
    assert sum(int(bar[-1].replace(",", "")) for bar in bars) == len(whole)
    assert max(len(bar[-2]) for bar in bars) == 40
    for left_out in plan.rows.left_out:
        assert any(left_out.reason in line and left_out.ids[0] in line for line in lines)


@pytest.mark.parametrize(
    ("size", "among", "read"),
    [(2**30, 2**30, "1.00 GiB"), (2**29, 2**30, "0.50 GiB"), (2**29, 2**29, "512.0 MiB"), (0, 2**20, "0.0 MiB")],
)
def test_sizes_that_stand_together_have_one_unit(size, among, read):
    assert size_of(size, among) == read


def test_one_number_is_said_once(folder):
    plan = make_plan(recipe())
    rows = plan.rows
    assert len(set(rows.pictures)) > 1
    alike = replace(plan, rows=replace(rows, pictures=(7,) * len(rows.pictures)))
    assert f"rows: {min(rows.pictures)} to {max(rows.pictures)} image tokens per row" in format_sections(
        plan_sections(plan)
    )
    assert "rows: 7 image tokens per row" in format_sections(plan_sections(alike))


def test_columns_stand_below_each_other_and_an_empty_section_has_its_note():
    sections = [Section("A", ("x", "long head"), (("1", "2"), ("333", "4"))), Section("B", ("x",), (), "Nothing.")]
    assert format_sections(sections) == "A\n  x    long head\n  1    2\n  333  4\n\nB\n  Nothing.\n"


def test_validation_samples_that_use_training_images_are_counted(folder):
    validation = "validation={samples: set, segmenter: grabcut, count: 5}"
    plan = make_plan(recipe(validation))
    assert (plan.validation, len(plan.known)) == (5, 5)
    assert f"  on training images      5: {', '.join(plan.known[:3])} ...\n" in format_sections(plan_sections(plan))
    shutil.copytree("images", "others")
    plan = make_plan(recipe(validation.replace("}", ", images: others}")))
    assert (plan.validation, plan.known) == (5, ())
    assert "  validation samples      5\n" in format_sections(plan_sections(plan))
    assert "on training images" not in format_sections(plan_sections(plan))


def test_nothing_left_out_is_said(folder):
    plan = make_plan(recipe("rows.tokens=5000"))
    assert format_sections(plan_sections(plan)).endswith("Left out\n  Nothing is left out.\n")


def test_the_command_prints_a_page_or_json(folder, command, monkeypatch):
    before = there(folder)
    words = ["finetune", LORA, *WORDS, "--plan"]
    code, out, _ = command(*words)
    assert (code, out) == (0, format_sections(plan_sections(make_plan(recipe()))))
    code, out, _ = command(*words, "--json")
    plan = make_plan(recipe())
    assert (code, json.loads(out)) == (0, json.loads(json.dumps(plan.to_json())))
    assert json.loads(out)["shape"]["memory"]["peak"] == plan.shape.memory.peak
    assert there(folder) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--json"], "error: --json prints a plan: add --plan"),
        (["--plan", "--resume"], "error: --plan and --resume exclude each other: remove one of them"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder, command, words, says):
    code, out, err = command("finetune", LORA, *WORDS, *words)
    assert (code, out, err.splitlines()[-1]) == (2, "", says)


def test_on_a_terminal_sections_are_tables(capsys, monkeypatch):
    from sam4mllm.cli import terminal

    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True, raising=False)
    terminal.show([Section("Rows", ("source", "rows"), (("set", "3"),), "A note.")])
    out = capsys.readouterr().out
    assert all(word in out for word in ("Rows", "source", "set", "A note.", "─"))
