"""Fine-tuning from the command line, from samples to an adapter, on small random models of the real classes."""

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
from tests import families, schemas
from tests.paths import ROOT

RECIPES = ROOT / "recipes"
LORA = RECIPES / "lora.yaml"
SMALL = ["mllm=model", "out=out", "data.0.samples=set", "data.0.targets=null", "dtype=float32", "rows.per_image=2"]
SMALL += ["rows.asked.mean=2", "rows.asked.deviation=0", "training.max_steps=2", "training.bf16=false"]
SMALL += ["training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=1"]
# peft and trl use properties of transformers that are deprecated
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


@pytest.fixture
def finetune(samples, command):
    """Runs `sam4mllm finetune` on a small model; returns the exit code, and the last line of standard error."""
    families.build("llava", Path("model"))

    def run_command(*words):
        code, out, err = command("finetune", LORA, *SMALL, *words)
        assert out == ("" if code else f"written to {recipe(*words).out}\n")
        return code, err.splitlines()[-1] if err else ""

    return run_command


@pytest.fixture
def at_row(monkeypatch):
    """Calls an action once, before a training reads its ``number``-th row; returns the row numbers that are read."""
    row = TrainingRows.row

    def patch(number, action):
        read = []

        def watched_row(self, index):
            read.append(index)
            if len(read) == number:
                action()
            return row(self, index)

        monkeypatch.setattr(TrainingRows, "row", watched_row)
        return read

    return patch


def run_out_of_memory(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory")


def recipe(*overrides: str) -> FinetuneConfig:
    return load(LORA, FinetuneConfig, [*SMALL, *(word for word in overrides if "=" in word)])


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("family", ["qwen2_5_vl", "idefics3"])
def test_the_same_commands_train_and_run_any_model(samples, command, family):
    families.build(family, Path("model"))
    code, out, _ = command("targets", "set", "--segmenter", "grabcut", "--out", "targets", "--candidates", 4)
    assert (code, out.count("\n")) == (0, 3)
    masks = {(sample.id, index) for sample in samples for index in range(len(sample.masks))}
    assert set(read_targets(Path("targets"))) == masks

    code, out, err = command("finetune", LORA, *SMALL, "data.0.targets=targets")
    assert (code, out.splitlines()[-1]) == (0, "written to out")
    next_command = "predict SAMPLES --adapter out --segmenter SEGMENTER --out out/predictions.jsonl"
    assert err.splitlines()[-1] == f"next: sam4mllm {next_command}"
    assert load(Path("out/recipe.yaml"), FinetuneConfig) == recipe("data.0.targets=targets")
    weights = load_file("out/adapter_model.safetensors")
    assert any(weight.any() for name, weight in weights.items() if "lora_B" in name)

    card = json.loads(Path("out/sam4mllm.json").read_text())
    schemas.check("adapter-card", card)
    assert card["base_name"] == str(Path("model").resolve())
    assert card["prompters"] == {"ppg": {"positive": 3, "negative": 3}, "pqpp": {}}
    assert set(card["data"]) == {"set/dataset.json", "targets/targets.json"}
    assert card["versions"].keys() == {"sam4mllm", "torch", "transformers", "peft", "trl"}
    model_card = Path("out/README.md").read_text()
    assert "sam4mllm finetune THIS_FOLDER/recipe.yaml" in model_card
    assert "Framework versions" not in model_card  # peft's, which breaks the table above it
    assert str(Path.cwd()) not in model_card

    words = ["--phrase", "the disc", "--prompter", "pqpp", "--points", 4, "--segmenter", "grabcut", "--json"]
    code, out, _ = command("infer", "images/0.png", *words, "--adapter", "out")
    assert code == 0
    assert json.loads(out)["replies"]
    schemas.check("infer-record", json.loads(out))
    assert command("infer", "images/0.png", *words, "--mllm", "model", "--adapter", "out")[:2] == (0, out)

    assert command("predict", "set", "--adapter", "out", "--segmenter", "grabcut", "--out", "set.jsonl")[0] == 0
    settings = json.loads(Path("set.settings.json").read_text())
    assert (settings["mllm"], settings["options"]) == (card["base_name"], card["prompters"]["ppg"])

    assert command("merge", "out", "--out", "merged")[0] == 0
    assert command("infer", "images/0.png", *words, "--mllm", "merged")[:2] == (0, out)


def test_a_resumed_run_continues_with_the_next_row(finetune, at_row):
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    steps = ["training.max_steps=4", "training.save_steps=2"]
    order = at_row(0, None)
    run(recipe("out=complete", *steps))
    at_row(8, stop)  # the trainer reads one batch ahead
    with pytest.raises(Stop):
        run(recipe("out=parts", *steps))
    assert Path("parts/checkpoints/checkpoint-2").is_dir()
    read = at_row(0, None)
    run(recipe("out=parts", *steps))
    assert read == order[4:]
    complete, parts = (load_file(f"{folder}/adapter_model.safetensors") for folder in ("complete", "parts"))
    assert all(torch.allclose(complete[name], parts[name], atol=1e-6) for name in complete)
    before = files()
    message = "parts was started with rows.seed 0, now 1: use the values it was started with, or set another out"
    assert finetune(*steps, "out=parts", "rows.seed=1") == (2, f"error: {message}")
    assert files() == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainng.steps=3", "unknown recipe key trainng: did you mean training?"),
        ("rows.mixture.pgp=3", "unknown recipe key rows.mixture.pgp: did you mean ppg?"),
        ("data.0.samples=nowhere", "nowhere is not a samples folder"),
        ("data.0.targets=nowhere", "nowhere is not a targets folder"),
        ("data.0.targets=others", "the targets belong to other samples"),
        ("data.0.targets=lost", "no targets for set: the targets folder is empty"),
        ("data.0.images=nowhere", "no such file: nowhere/"),
        ("data.1.talks=nowhere", "nowhere is not a talks folder"),
        ("data.2.talks=nowhere", "'2' is not one of 0, 1 for a new entry"),
        ("data.0.weight=0", "no source with a weight above 0"),
        ("data.0.talks=set", "a source needs either samples or talks"),
        ("data.0.sampels=set", "unknown recipe key data.0.sampels: did you mean samples?"),
        ("samples=set", "unknown recipe key samples"),
        ("mllm=klein", "unknown MLLM 'klein'"),
        ("mllm=replay:said.jsonl", "replay:said.jsonl is not a transformers model and cannot be trained"),
        ("dialect=klingon", "unknown dialect 'klingon'"),
        ("dtype=int3", "unknown dtype 'int3'"),
        ("device=warp", "the device 'warp' cannot be used"),
        ("out=said.jsonl", "cannot write into said.jsonl"),
        ("training.max_steps=0", "training.max_steps must be 1 or more, got 0"),
        ("training.lr_scheduler_type=linaer", "training.lr_scheduler_type must be one of linear, cosine"),
        ("training.lora.r=0", "training.lora.r must be 1 or more, got 0"),
        ("training.report_to=[tensorbord]", "unknown training.report_to 'tensorbord'"),
        ("training.lora.projector=half", "one of lora, full, frozen"),
        ("validation={samples: set, segmenter: grabcat}", "did you mean grabcut"),
        ("validation={samples: nowhere, segmenter: grabcut}", "nowhere is not a samples"),
        ("validation={samples: set, segmenter: grabcut, prompter: oracle}", "oracle, which uses no model"),
        ("training.quantize=4bit", "4 bits need"),
        ("rows.mixture.ppg=-1", "must be 0 or more"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line_before_the_model_is_loaded(samples, command, monkeypatch, override, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(HfMLLM, "load", lambda *_, **__: pytest.fail("loaded"))
    Path("model").mkdir()
    Path("said.jsonl").write_text('{"id": "a", "replies": ["none"]}\n')
    write_targets([], Path("lost"), {})
    write_samples([replace(sample, id=f"x{sample.id}") for sample in samples], Path("others"), Path("images"))
    assert command("targets", "others", "--segmenter", "grabcut", "--candidates", 1, "--out", "others")[0] == 0
    before = files()
    code, out, err = command("finetune", LORA, *SMALL, "training.max_steps=50", override)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err
    assert files() == before


def test_unknown_target_modules_are_reported_before_images_are_read(finetune):
    Path("images/0.png").write_bytes(b"not an image")
    before = files()
    code, error = finetune("training.lora.target_modules=[nope]")
    assert code == 2
    assert "error: no linear layer of the language model matches 'nope'" in error
    assert files() == before


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def test_a_damaged_image_is_reported_before_anything_is_written(samples, finetune):
    shutil.copy("images/0.png", "images/damaged.png")
    truncate(Path("images/damaged.png"))
    damaged = replace(samples.samples[0], id="z", image="damaged.png")
    write_samples([*samples, damaged], Path("damaged"), Path("images"))
    before = files()
    code, error = finetune("training.max_steps=50", "data.0.samples=damaged")
    assert code == 2
    assert re.match("error: sample z: .*images/damaged.png: image file is truncated", error)
    assert files() == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda: Path("images").rename("away"), r"no such file: set/../images/\d.png$", id="missing"),
        pytest.param(
            lambda: list(map(truncate, Path("images").iterdir())),
            r"cannot read \S+/\d.png: image file is truncated",
            id="truncated",
        ),
    ],
)
def test_an_image_that_is_damaged_later_is_reported_and_the_run_resumes(finetune, at_row, damage, message):
    words = ["training.max_steps=4", "training.save_steps=1"]
    shutil.copytree("images", "backup")
    at_row(7, damage)
    code, error = finetune(*words)
    assert code == 2
    assert re.match(rf"error: sample \S+: {message}", error)
    assert last_complete_checkpoint(Path("out/checkpoints")) is not None
    shutil.copytree("backup", "images", dirs_exist_ok=True)
    assert finetune(*words)[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is not a samples folder"),
        (["set", "--segmenter", ""], "no segmenter is set"),
        (["set", "--segmenter", "grabcat"], "did you mean grabcut?"),
        (["set", "--segmenter", "box"], "takes boxes only"),
        (["set", "--device", "cuda"], "grabcut runs only on the CPU"),
        (["set", "--keep", "0"], "the search option keep must be 1 or more, got 0"),
        (["set", "--images", "nowhere"], "3 of 3 images are missing, the first is nowhere/0.png"),
        (["set", "--out", "images/0.png"], "cannot write into images/0.png"),
    ],
)
def test_a_mistake_about_targets_gives_one_error_line_and_writes_nothing(samples, command, words, message):
    before = files()
    code, out, err = command("targets", "--segmenter", "grabcut", "--out", "targets", *words)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err.splitlines()[-1]
    assert files() == before


def test_targets_record_the_weights_of_the_segmenter_and_are_refused_with_others(samples, command):
    shutil.copytree(EMBEDDED / "sam", "sam")
    file, words = Path("sam/model.safetensors"), ["targets", "set", "--segmenter", "sam", "--candidates", 1]
    assert command(*words, "--out", "targets")[0] == 0
    assert read_about(Path("targets"))["weights"] == [hashlib.sha256(file.read_bytes()).hexdigest()]
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    before = files()
    code, out, err = command(*words, "--out", "targets")
    assert (code, out) == (2, "")
    assert "error: targets was started with weights.0 " in err.splitlines()[-1]
    assert files() == before


def test_validation_scores_and_images_are_written_during_the_training(samples, command, caplog):
    families.build("llava", Path("model"))
    validation = ["samples=set", "segmenter=grabcut", "count=2", "every=1", "prompter=pqpp"]
    code, _, err = command("finetune", LORA, *SMALL, *(f"validation.{word}" for word in validation))
    assert code == 0
    names = {path.name for path in Path("out/validation").glob("*.*") if "timings" not in path.name}
    assert names == {f"step-00000{step}.{suffix}" for step in (1, 2) for suffix in ("jsonl", "png")}
    assert "step 1 of 2 | validation: cIoU 0." in err
    assert "2 of 2 validation samples use training images; their scores are optimistic" in caplog.text
    assert "| validation: unreadable, step 2 |" in Path("out/README.md").read_text()
    assert load(Path("out/recipe.yaml"), FinetuneConfig).validation.count == 2


def test_an_interrupt_exits_with_130_and_a_checkpoint_and_resume_continues(finetune, at_row, caplog):
    words = ["training.max_steps=6", "training.save_steps=100"]
    assert finetune(*words, "--resume") == (2, "error: nothing to resume: no run was started in out")
    assert not Path("out").exists()
    at_row(5, lambda: signal.raise_signal(signal.SIGINT))
    assert finetune(*words)[0] == 130
    assert "the checkpoint is saved, and the same command resumes" in caplog.text
    assert len(list(Path("out/checkpoints").glob("checkpoint-*"))) == 1
    assert not Path("out/adapter_model.safetensors").exists()
    assert finetune(*words, "--resume")[0] == 0


def test_two_runs_do_not_share_a_folder(finetune, at_row):
    def run_second():
        before = files()
        message = "error: another run is writing out: wait for it, or choose another folder"
        results.append((finetune(), files() == before))
        assert results == [((2, message), True)]

    results = []
    at_row(1, run_second)
    assert finetune()[0] == 0
    assert results
    assert not Path("out/lock").exists()


def test_too_little_memory_for_the_model_gives_one_error_line(finetune, monkeypatch):
    monkeypatch.setattr(HfMLLM, "load", run_out_of_memory)
    before = files()
    code, error = finetune()
    assert code == 2
    assert re.search("^error: out of memory .*quantize=4bit", error)
    assert files() == before


def test_a_run_resumes_with_less_memory_but_not_with_changed_data(samples, finetune, at_row):
    words = ["training.max_steps=3", "training.save_steps=1"]
    at_row(5, run_out_of_memory)
    code, error = finetune(*words)
    assert (code, error[:45]) == (2, "error: out of memory on the device: to resume")
    before = {path: data for path, data in files().items() if path.startswith("out")}
    code, error = finetune(*words, "--resume", "training.per_device_train_batch_size=1")
    message = "out was started with rows a step 2, now 1: use the values it was started with, or set another out"
    assert (code, error) == (2, f"error: {message}")
    changed = [replace(sample, phrase=f"{sample.phrase} there") for sample in samples]
    write_samples(changed, Path("set"), Path("images"))
    code, error = finetune(*words, "--resume")
    assert code == 2
    assert "out was started with data.0.samples sha256:" in error
    write_samples(list(samples), Path("set"), Path("images"))
    assert {path: data for path, data in files().items() if path.startswith("out")} == before
    less = ["per_device_train_batch_size=1", "gradient_accumulation_steps=2", "gradient_checkpointing=true"]
    assert finetune(*words, "--resume", *(f"training.{word}" for word in less))[0] == 0
    assert load(Path("out/recipe.yaml"), FinetuneConfig).training.per_device_train_batch_size == 1


@pytest.mark.parametrize("words", [["--resume"], ["dialect=gemma", "rows.seed=1"]])
def test_a_run_without_a_checkpoint_starts_again(finetune, at_row, caplog, words):
    at_row(1, run_out_of_memory)
    assert finetune()[0] == 2
    assert finetune(*words)[0] == 0
    assert ("out has no checkpoint: the run starts from the first step." in caplog.text) is (words == ["--resume"])


def test_a_finished_run_is_reported_before_the_model_is_loaded(finetune, monkeypatch, caplog):
    assert finetune()[0] == 0
    replace(AdapterCard.read(Path("out")), prompters={"pqpp": {"points": 9, "sure_yes": 0.6}}).write(Path("out"))
    before = files()
    monkeypatch.setattr(HfMLLM, "load", lambda *_, **__: pytest.fail("loaded"))
    halved = ["training.per_device_train_batch_size=1", "training.gradient_accumulation_steps=2"]
    for words in ([], ["--resume"], ["pqpp.points=4", *halved]):
        caplog.clear()
        assert finetune(*words)[0] == 0
        assert "All steps are done: the adapter in out is not changed." in caplog.text
        assert files() == before


def test_a_run_whose_last_checkpoint_is_missing_repeats_its_steps(finetune, caplog):
    assert finetune("training.save_steps=1")[0] == 0
    shutil.copyfile("out/checkpoints/checkpoint-1/adapter_model.safetensors", "out/adapter_model.safetensors")
    shutil.rmtree("out/checkpoints/checkpoint-2")
    assert finetune("training.save_steps=1")[0] == 0
    assert "All steps are done" not in caplog.text
    assert Path("out/checkpoints/checkpoint-2").is_dir()


def test_changed_validation_settings_give_a_warning(finetune, at_row, caplog):
    words = ["validation.samples=set", "validation.every=1", "validation.segmenter=grabcut"]
    words += ["training.save_steps=1", "training.max_steps=3"]
    at_row(6, run_out_of_memory)
    assert finetune(*words, "validation.count=2", "validation.batch=1")[0] == 2
    assert finetune(*words, "validation.count=1", "validation.prompter=pqpp")[0] == 0
    assert (
        "Validation settings changed (options, prompter, samples): "
        "earlier scores are ignored for the best step." in caplog.text
    )


def test_an_adapter_without_checkpoints_is_not_overwritten(finetune):
    assert finetune()[0] == 0
    Path("out/checkpoints").rename("away")
    before = files()
    message = "out already contains adapter_model.safetensors but no checkpoint to resume from: set another out"
    assert finetune("rows.seed=1") == (2, f"error: {message}")
    assert files() == before


def test_only_the_first_process_writes_and_locks_the_folder(finetune, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("sam4mllm.training.run.finetune", lambda *_, **__: Path("out"))
    before = files()
    run(recipe())
    assert files() == before


def test_another_number_of_processes_is_refused(finetune, monkeypatch):
    assert finetune()[0] == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, error = finetune("--resume")
    assert (code, "out was started with rows a step 2, now 4:" in error) == (2, True)
