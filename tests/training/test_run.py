"""From samples to an adapter that answers, by the command line alone, on small random models of the real classes."""

import hashlib
import json
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sam4mllm.data.samples import SampleSet, read_samples, write_samples
from sam4mllm.images.files import write_png
from sam4mllm.mllm.adapter_card import AdapterCard
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.runtime.settings import load
from sam4mllm.runtime.specs import EMBEDDED
from sam4mllm.synthetic import Level, draw_split
from sam4mllm.synthetic.shards import samples_of
from sam4mllm.targets.record import read_about, read_targets, write_targets
from sam4mllm.training.checkpoints import last_complete_checkpoint
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.dataset.rows import TrainingRows
from sam4mllm.training.run import run
from tests import families
from tests.paths import ROOT

RECIPES = ROOT / "recipes"
LORA = RECIPES / "lora.yaml"
SMALL = ["mllm=model", "out=out", "data.0.samples=set", "data.0.targets=null", "dtype=float32", "rows.per_image=2"]
SMALL += [
    "rows.asked.mean=2",
    "rows.asked.deviation=0",
    "training.max_steps=2",
    "training.per_device_train_batch_size=2",
    "training.gradient_accumulation_steps=1",
]
SMALL += ["training.bf16=false"]
# peft and trl ask transformers for properties by names that it deprecates
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def samples(tmp_path, monkeypatch) -> SampleSet:
    """The samples of three scenes, below the working folder."""
    monkeypatch.chdir(tmp_path)
    samples = []
    for index in range(3):
        drawing = draw_split("train", index, Level(objects=(2, 3)), size=64)
        write_png(Path(f"images/{index}.png"), drawing.image)
        samples += samples_of(drawing, f"{index}.png", "train")
    write_samples(samples, Path("set"), Path("images"))
    return read_samples(Path("set"))


def recipe(*overrides: str) -> FinetuneConfig:
    return load(LORA, FinetuneConfig, [*SMALL, *overrides])


def kept() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("family", ["qwen2_5_vl", "idefics3"])
def test_the_same_three_commands_teach_any_model_and_ask_it(samples, command, family):
    families.build(family, Path("model"))
    code, out, _ = command("targets", "set", "--segmenter", "grabcut", "--out", "targets", "--candidates", 4)
    assert (code, out.count("\n")) == (0, 3)
    assert set(read_targets(Path("targets"))) == {(one.id, i) for one in samples for i in range(len(one.masks))}

    code, out, _ = command("finetune", LORA, *SMALL, "data.0.targets=targets")
    assert (code, out.splitlines()[-1]) == (0, "written to out")
    assert load(Path("out/recipe.yaml"), FinetuneConfig) == recipe("data.0.targets=targets")
    learned = load_file("out/adapter_model.safetensors")
    assert any(weights.any() for name, weights in learned.items() if "lora_B" in name)

    card = json.loads(Path("out/sam4mllm.json").read_text())
    assert card["base_name"] == str(Path("model").resolve())
    assert card["prompters"] == {"ppg": {"positive": 3, "negative": 3}, "pqpp": {}}
    assert set(card["data"]) == {"set/dataset.json", "targets/targets.json"}
    assert card["versions"].keys() == {"sam4mllm", "torch", "transformers", "peft", "trl"}
    assert "sam4mllm finetune THIS_FOLDER/recipe.yaml" in Path("out/README.md").read_text()

    words = ["--phrase", "the disc", "--prompter", "pqpp", "--points", 4, "--segmenter", "grabcut", "--json"]
    code, out, _ = command("infer", "images/0.png", *words, "--adapter", "out")
    assert code == 0
    assert json.loads(out)["replies"]
    assert command("infer", "images/0.png", *words, "--mllm", "model", "--adapter", "out")[:2] == (0, out)

    assert command("predict", "set", "--adapter", "out", "--segmenter", "grabcut", "--out", "said.jsonl")[0] == 0
    settings = json.loads(Path("said.settings.json").read_text())
    assert (settings["mllm"], settings["options"]) == (card["base_name"], card["prompters"]["ppg"])

    assert command("merge", "out", "--out", "merged")[0] == 0
    assert command("infer", "images/0.png", *words, "--mllm", "merged")[:2] == (0, out)


def test_a_run_that_was_stopped_goes_on_with_the_rows_that_are_left(samples, command, monkeypatch):
    families.build("llava", Path("model"))
    asked, last, row = [], 10**6, TrainingRows.row

    class Stop(Exception):
        pass

    def watched(self, index):
        if len(asked) == last:
            raise Stop
        asked.append(index)
        return row(self, index)

    monkeypatch.setattr(TrainingRows, "row", watched)
    steps = ["training.max_steps=4", "training.save_steps=2"]
    run(recipe("out=whole", *steps))
    order, asked, last = asked, [], 7  # one batch is asked for ahead
    with pytest.raises(Stop):
        run(recipe("out=parts", *steps))
    assert Path("parts/checkpoints/checkpoint-2").is_dir()
    asked, last = [], 10**6
    run(recipe("out=parts", *steps))
    assert asked == order[4:]
    whole, parts = (load_file(f"{folder}/adapter_model.safetensors") for folder in ("whole", "parts"))
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)
    before = kept()
    code, _, err = command("finetune", LORA, *SMALL, *steps, "out=parts", "rows.seed=1")
    assert code == 2
    assert err.endswith(
        "error: parts was started with rows.seed 0, now 1: use the values it was started with, or set another out\n"
    )
    assert kept() == before


@pytest.mark.parametrize(
    ("override", "says"),
    [
        pytest.param("trainng.steps=3", "unknown recipe key trainng: did you mean training?", id="unknown key"),
        pytest.param("rows.mixture.pgp=3", "unknown recipe key rows.mixture.pgp: did you mean ppg?", id="deep key"),
        pytest.param("data.0.samples=nowhere", "nowhere is not a samples folder", id="no samples"),
        pytest.param("data.0.targets=nowhere", "nowhere is not a targets folder", id="no targets"),
        pytest.param("data.0.targets=others", "the targets belong to other samples", id="other samples"),
        pytest.param("data.0.targets=lost", "no targets for set: the targets folder is empty", id="empty targets"),
        pytest.param("data.0.images=nowhere", "no such file: nowhere/", id="no pictures"),
        pytest.param("data.1.talks=nowhere", "nowhere is not a talks folder", id="no talks"),
        pytest.param("data.2.talks=nowhere", "'2' is none of 0, 1 for a new entry", id="no such source"),
        pytest.param("data.0.weight=0", "no source whose weight is above 0", id="no source"),
        pytest.param("data.0.talks=set", "a source needs either samples or talks", id="two in one"),
        pytest.param(
            "data.0.sampels=set", "unknown recipe key data.0.sampels: did you mean samples?", id="a key of data"
        ),
        pytest.param("samples=set", "unknown recipe key samples", id="an old key"),
        pytest.param("mllm=klein", "unknown model 'klein'", id="no model"),
        pytest.param(
            "mllm=replay:said.jsonl",
            "replay:said.jsonl is not a transformers model and cannot be trained",
            id="recording",
        ),
        pytest.param("dialect=klingon", "unknown dialect 'klingon'", id="dialect"),
        pytest.param("dtype=int3", "unknown dtype 'int3'", id="dtype"),
        pytest.param("device=warp", "the device 'warp' cannot be used", id="device"),
        pytest.param("out=said.jsonl", "cannot write into said.jsonl", id="out is a file"),
        pytest.param("training.max_steps=0", "training.max_steps must be 1 or more, got 0", id="steps"),
        pytest.param(
            "training.lr_scheduler_type=linaer", "training.lr_scheduler_type is one of linear, cosine", id="schedule"
        ),
        pytest.param("training.lora.r=0", "training.lora.r must be 1 or more, got 0", id="rank"),
        pytest.param("training.report_to=[tensorbord]", "unknown training.report_to 'tensorbord'", id="report"),
        pytest.param("training.lora.projector=half", "one of lora, full, frozen", id="projector"),
        pytest.param(
            "validation={samples: set, segmenter: grabcat}", "did you mean grabcut", id="validation segmenter"
        ),
        pytest.param(
            "validation={samples: nowhere, segmenter: grabcut}", "nowhere is not a samples", id="validation samples"
        ),
        pytest.param(
            "validation={samples: set, segmenter: grabcut, prompter: oracle}",
            "oracle, which uses no model",
            id="validation oracle",
        ),
        pytest.param("training.quantize=4bit", "4 bits need", id="four bits"),
        pytest.param("rows.mixture.ppg=-1", "must be 0 or more", id="mixture"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line_before_the_model_is_loaded(samples, command, monkeypatch, override, says):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(HfMLLM, "load", lambda *_, **__: pytest.fail("loaded"))
    Path("model").mkdir()
    Path("said.jsonl").write_text('{"id": "a", "replies": ["none"]}\n')
    write_targets([], Path("lost"), {})
    write_samples([replace(one, id=f"x{one.id}") for one in samples], Path("others"), Path("images"))
    assert command("targets", "others", "--segmenter", "grabcut", "--candidates", 1, "--out", "others")[0] == 0
    before = kept()
    code, out, err = command("finetune", LORA, *SMALL, "training.max_steps=50", override)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert says in err
    assert kept() == before


def test_layers_that_the_model_has_not_are_named_before_pictures_are_read_and_anything_is_written(samples, command):
    families.build("llava", Path("model"))
    Path("images/0.png").write_bytes(b"no picture")
    before = kept()
    code, _, err = command("finetune", LORA, *SMALL, "training.lora.target_modules=[nope]")
    assert code == 2
    assert "error: no linear layer of the language model matches 'nope'" in err
    assert kept() == before


def test_a_picture_that_cannot_be_read_stops_a_run_in_one_line_before_anything_is_written(samples, command):
    families.build("llava", Path("model"))
    Path("images/spoilt.png").write_bytes(Path("images/0.png").read_bytes()[:-100])
    write_samples([*samples, replace(samples.samples[0], id="z", image="spoilt.png")], Path("spoilt"), Path("images"))
    before = kept()
    code, out, err = command("finetune", LORA, *SMALL, "training.max_steps=50", "data.0.samples=spoilt")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: sample z: ")
    assert "images/spoilt.png: image file is truncated" in err.splitlines()[-1]
    assert kept() == before


def test_a_picture_that_vanishes_later_is_named_and_the_run_goes_on_when_it_is_back(samples, command, monkeypatch):
    families.build("llava", Path("model"))
    words = [*SMALL, "training.max_steps=4", "training.save_steps=1"]
    row, asked = TrainingRows.row, []

    def vanishing(self, index):
        asked.append(index)
        if len(asked) == 7:
            Path("images").rename("away")
        return row(self, index)

    monkeypatch.setattr(TrainingRows, "row", vanishing)
    code, _, err = command("finetune", LORA, *words)
    assert code == 2
    assert re.fullmatch(r"error: sample \S+: no such file: set/../images/\d.png", err.splitlines()[-1])
    assert list(Path("out/checkpoints").glob("checkpoint-*"))
    monkeypatch.setattr(TrainingRows, "row", row)
    Path("away").rename("images")
    assert command("finetune", LORA, *words)[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["nowhere"], "nowhere is not a samples folder", id="no samples"),
        pytest.param(["set", "--segmenter", ""], "no segmenter is named", id="no segmenter"),
        pytest.param(["set", "--segmenter", "grabcat"], "did you mean grabcut?", id="unknown segmenter"),
        pytest.param(["set", "--segmenter", "box"], "takes boxes only", id="no points for box"),
        pytest.param(["set", "--device", "cuda"], "grabcut runs only on the CPU", id="no device for grabcut"),
        pytest.param(["set", "--keep", "0"], "the search option keep must be 1 or more, got 0", id="keep"),
        pytest.param(
            ["set", "--images", "nowhere"], "3 of 3 images are missing, the first is nowhere/0.png", id="no pictures"
        ),
        pytest.param(["set", "--out", "images/0.png"], "cannot write into images/0.png", id="out is a file"),
    ],
)
def test_a_mistake_about_targets_is_one_line_and_nothing_is_written(samples, command, words, says):
    before = kept()
    code, out, err = command("targets", "--segmenter", "grabcut", "--out", "targets", *words)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert says in err.splitlines()[-1]
    assert kept() == before


def test_targets_note_the_segmenters_weights_and_are_refused_with_others(samples, command):
    shutil.copytree(EMBEDDED / "sam", "sam")
    file, words = Path("sam/model.safetensors"), ["targets", "set", "--segmenter", "sam", "--candidates", 1]
    assert command(*words, "--out", "targets")[0] == 0
    assert read_about(Path("targets"))["weights"] == [hashlib.sha256(file.read_bytes()).hexdigest()]
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    before = kept()
    code, out, err = command(*words, "--out", "targets")
    assert (code, out) == (2, "")
    assert "error: targets holds targets with other settings (weights): " in err.splitlines()[-1]
    assert kept() == before


def test_a_recipe_that_is_missing_is_named(samples, command):
    code, _, err = command("finetune", "nowhere.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: no such recipe: nowhere.yaml")


def test_validation_samples_are_scored_and_drawn_while_it_trains_and_the_best_is_kept(samples, command, caplog):
    families.build("llava", Path("model"))
    validation = ["samples=set", "segmenter=grabcut", "count=2", "every=1", "prompter=pqpp"]
    words = [LORA, *SMALL, *(f"validation.{word}" for word in validation)]
    code, _, err = command("finetune", *words)
    assert code == 0
    drawn = ["step-000001.jsonl", "step-000001.png", "step-000002.jsonl", "step-000002.png"]
    assert [path.name for path in sorted(Path("out/validation").glob("*.*"))][::1] == sorted(
        [*drawn, *(path.name for path in Path("out/validation").glob("*timings*"))]
    )
    assert "step 1 of 2 | validation: cIoU 0." in err
    assert "2 of 2 validation samples use training images; their scores are optimistic" in caplog.text
    assert "| validation: unreadable, step 2 |" in Path("out/README.md").read_text()
    assert load(Path("out/recipe.yaml"), FinetuneConfig).validation.count == 2


def test_an_interrupt_ends_with_130_and_a_checkpoint_and_resume_goes_on(samples, command, monkeypatch, caplog):
    families.build("llava", Path("model"))
    asked, row = [], TrainingRows.row

    def pressed(self, index):
        asked.append(index)
        if len(asked) == 5:
            signal.raise_signal(signal.SIGINT)
        return row(self, index)

    words = ["finetune", LORA, *SMALL, "training.max_steps=6", "training.save_steps=100"]
    code, _, err = command(*words, "--resume")
    assert code == 2
    assert err.splitlines()[-1] == "error: nothing to resume: no run was started in out"
    assert not Path("out").exists()
    monkeypatch.setattr(TrainingRows, "row", pressed)
    assert command(*words)[0] == 130
    assert "the checkpoint is saved, and the same command resumes" in caplog.text
    assert len(list(Path("out/checkpoints").glob("checkpoint-*"))) == 1
    assert not Path("out/adapter_model.safetensors").exists()
    code, out, _ = command(*words, "--resume")
    assert (code, out) == (0, "written to out\n")


def test_two_runs_do_not_share_a_folder(samples, command, monkeypatch):
    families.build("llava", Path("model"))
    seen, row = [], TrainingRows.row

    def second(self, index):
        if not seen:
            before = kept()
            seen.append(command("finetune", LORA, *SMALL)[::2])
            assert kept() == before
        return row(self, index)

    monkeypatch.setattr(TrainingRows, "row", second)
    assert command("finetune", LORA, *SMALL)[0] == 0
    assert seen[0][0] == 2
    assert seen[0][1].splitlines()[-1] == "error: another run is writing out: wait for it, or give another folder"
    assert not Path("out/lock").exists()


def test_a_model_that_has_no_room_is_one_line_and_nothing_is_written(samples, command, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    families.build("llava", Path("model"))
    monkeypatch.setattr(HfMLLM, "load", full)
    before = kept()
    code, out, err = command("finetune", LORA, *SMALL)
    assert (code, out) == (2, "")
    assert re.search("^error: out of memory .*quantize: 4bit", err.splitlines()[-1])
    assert kept() == before


def test_what_needs_less_memory_is_gone_on_with_and_changed_data_are_not(samples, command, monkeypatch):
    families.build("llava", Path("model"))
    words = ["finetune", LORA, *SMALL, "training.max_steps=3", "training.save_steps=1"]
    asked, row = [], TrainingRows.row

    def full(self, index):
        asked.append(index)
        if len(asked) == 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return row(self, index)

    monkeypatch.setattr(TrainingRows, "row", full)
    code, _, err = command(*words)
    assert (code, err.splitlines()[-1][:41]) == (2, "error: out of memory on the device: halve")
    monkeypatch.setattr(TrainingRows, "row", row)
    before = kept()
    code, _, err = command(*words, "--resume", "training.per_device_train_batch_size=1")
    assert (code, err.splitlines()[-1]) == (
        2,
        "error: out was started with rows a step 2, now 1: use the values it was started with, or set another out",
    )
    write_samples([replace(one, phrase=f"{one.phrase} there") for one in samples], Path("set"), Path("images"))
    code, _, err = command(*words, "--resume")
    assert code == 2
    assert "out was started with data.0.samples sha256:" in err
    write_samples(list(samples), Path("set"), Path("images"))
    assert {path: data for path, data in kept().items() if path.startswith("out")} == {
        path: data for path, data in before.items() if path.startswith("out")
    }
    cure = [
        "training.per_device_train_batch_size=1",
        "training.gradient_accumulation_steps=2",
        "training.gradient_checkpointing=true",
    ]
    assert command(*words, "--resume", *cure)[0] == 0
    assert load(Path("out/recipe.yaml"), FinetuneConfig).training.per_device_train_batch_size == 1


def test_a_run_that_died_before_its_first_checkpoint_begins_anew(samples, command, monkeypatch, caplog):
    families.build("llava", Path("model"))
    row = TrainingRows.row

    def full(self, index):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TrainingRows, "row", full)
    assert command("finetune", LORA, *SMALL)[0] == 2
    monkeypatch.setattr(TrainingRows, "row", row)
    assert command("finetune", LORA, *SMALL, "--resume")[0] == 0
    assert "out has no checkpoint: the run starts from the first step." in caplog.text
    monkeypatch.setattr(TrainingRows, "row", full)
    assert command("finetune", LORA, *SMALL, "out=other")[0] == 2
    monkeypatch.setattr(TrainingRows, "row", row)
    assert command("finetune", LORA, *SMALL, "out=other", "dialect=gemma", "rows.seed=1")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--resume"],
        ["pqpp.points=4", "training.per_device_train_batch_size=1", "training.gradient_accumulation_steps=2"],
    ],
)
def test_a_run_that_ended_is_said_to_be_done_before_the_model_is_loaded_and_nothing_is_written(
    samples, command, monkeypatch, caplog, words
):
    families.build("llava", Path("model"))
    assert command("finetune", LORA, *SMALL)[0] == 0
    replace(AdapterCard.read(Path("out")), prompters={"pqpp": {"points": 9, "sure_yes": 0.6}}).write(Path("out"))
    before = kept()
    monkeypatch.setattr(HfMLLM, "load", lambda *_, **__: pytest.fail("loaded"))
    code, out, _ = command("finetune", LORA, *SMALL, *words)
    assert (code, out) == (0, "written to out\n")
    assert "All steps are done: the adapter in out is not changed." in caplog.text
    assert kept() == before


def test_a_run_whose_last_checkpoint_is_gone_has_steps_to_do(samples, command, caplog):
    families.build("llava", Path("model"))
    words = ["finetune", LORA, *SMALL, "training.save_steps=1"]
    assert command(*words)[0] == 0
    shutil.copyfile("out/checkpoints/checkpoint-1/adapter_model.safetensors", "out/adapter_model.safetensors")
    shutil.rmtree("out/checkpoints/checkpoint-2")
    assert command(*words)[0] == 0
    assert "All steps are done" not in caplog.text
    assert Path("out/checkpoints/checkpoint-2").is_dir()


def test_a_validation_that_changed_is_named(samples, command, monkeypatch, caplog):
    families.build("llava", Path("model"))
    row, validation = TrainingRows.row, ["validation.samples=set", "validation.every=1"]
    words = ["finetune", LORA, *SMALL, *validation, "training.save_steps=1", "training.max_steps=3"]

    def full(self, index):
        if index == 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return row(self, index)

    monkeypatch.setattr(TrainingRows, "row", full)
    assert command(*words, "validation.segmenter=grabcut", "validation.count=2", "validation.batch=1")[0] == 2
    monkeypatch.setattr(TrainingRows, "row", row)
    assert command(*words, "validation.segmenter=grabcut", "validation.count=1", "validation.prompter=pqpp")[0] == 0
    assert (
        "Validation settings changed (options, prompter, samples): "
        "scores before the last checkpoint do not count for the best step." in caplog.text
    )


def test_an_adapter_without_checkpoints_is_not_written_over(samples, command):
    families.build("llava", Path("model"))
    assert command("finetune", LORA, *SMALL)[0] == 0
    Path("out/checkpoints").rename("gone")
    before = kept()
    code, _, err = command("finetune", LORA, *SMALL, "rows.seed=1")
    assert code == 2
    assert err.endswith(
        "error: out already contains adapter_model.safetensors but no checkpoint to resume from: set another out\n"
    )
    assert kept() == before


def test_the_first_of_several_processes_alone_writes_and_holds_the_folder(samples, monkeypatch):
    families.build("llava", Path("model"))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("sam4mllm.training.run.finetune", lambda *_, **__: Path("out"))
    before = kept()
    run(recipe())
    assert kept() == before


def test_other_processes_than_a_run_was_begun_with_are_refused(samples, command, monkeypatch):
    families.build("llava", Path("model"))
    assert command("finetune", LORA, *SMALL)[0] == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = command("finetune", LORA, *SMALL, "--resume")
    assert (code, "out was started with rows a step 2, now 4:" in err) == (2, True)


def test_a_picture_that_cannot_be_read_in_the_middle_is_one_line_and_checkpoints_stay(samples, command, monkeypatch):
    families.build("llava", Path("model"))
    asked, row = [], TrainingRows.row

    def spoilt(self, index):
        asked.append(index)
        if len(asked) == 6:
            for path in Path("images").iterdir():
                path.write_bytes(path.read_bytes()[:-100])
        return row(self, index)

    monkeypatch.setattr(TrainingRows, "row", spoilt)
    code, _, err = command("finetune", LORA, *SMALL, "training.max_steps=6", "training.save_steps=1")
    assert code == 2
    assert re.search(r"^error: sample \S+: cannot read \S+/\d.png: image file is truncated", err.splitlines()[-1])
    assert last_complete_checkpoint(Path("out/checkpoints")) is not None
