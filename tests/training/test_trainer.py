"""Training through TRL on small random models: learning, checkpoints, resuming after failures, and validation."""

import errno
import json
import os
import re
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from trl import SFTTrainer

from sam4mllm.errors import UserError
from sam4mllm.language.messages import Turn
from sam4mllm.mllm.adapter_card import CARD, AdapterCard
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.training.callbacks import Scoring
from sam4mllm.training.checkpoints import complete_checkpoints, last_complete_checkpoint
from sam4mllm.training.config.training import Lora, Training
from sam4mllm.training.prepare import check_reports
from sam4mllm.training.trainer import _use_one_gpu, finetune, sft_config
from tests.families import build

# peft and trl use properties of transformers that are deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
IMAGES = [np.full((40, 60, 3), shade, dtype=np.uint8) for shade in (40, 200)]
LORA = Lora(r=4, lora_alpha=8)
STEPS = Training(
    max_steps=5,
    per_device_train_batch_size=2,
    learning_rate=1e-2,
    lora=replace(LORA, lora_dropout=0.1),
    save_steps=2,
    logging_steps=1,
)


def row(index):
    reply = ("[100,200,300,400]", "none")[index % 2]
    return IMAGES[index % 2], [Turn("user", "Where is the cat?"), Turn("assistant", reply)]


def uneven(index):
    """Rows with one question and with three."""
    image, turns = row(index)
    return image, turns * (1 + index % 2 * 2)


@torch.no_grad()
def loss_of(mllm, rows=None) -> float:
    return float(mllm.model(**mllm.rows(rows or [row(0), row(1)])).loss)


def load(folder, **options):
    return HfMLLM.load(folder, device="cpu", **options)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build("llava", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def train(base):
    """Trains a LoRA on `base` with the arguments of `STEPS`, except the given ones."""

    def train_base(out, rows=row, mllm=None, scoring=None, **changes):
        return finetune(mllm or load(base), rows, replace(STEPS, **changes), out, scoring=scoring)

    return train_base


@pytest.fixture(scope="module")
def complete(train, tmp_path_factory):
    """The adapter of an uninterrupted run of `STEPS`."""
    return train(tmp_path_factory.mktemp("complete"))


class Stopped(Exception):
    """An abrupt end."""


def die(_=None):
    raise Stopped


def rows_until(after: int, end, mllm=None):
    """Rows that call ``end`` after ``after`` rows; the trainer reads a batch ahead: 7 rows before step 3."""
    read = []

    def rows(index):
        read.append(index)
        if len(read) == after + 1:
            end(mllm)
        return row(index)

    return rows


def losses(out) -> dict[int, float]:
    """The losses in the log of the last checkpoint, by step."""
    state = json.loads((last_complete_checkpoint(out / "checkpoints") / "trainer_state.json").read_text())
    return {entry["step"]: entry["loss"] for entry in state["log_history"] if "loss" in entry}


def steps_of(out) -> list[int]:
    return list(complete_checkpoints(out / "checkpoints"))


def equal_weights(*folders) -> bool:
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in folders)
    return first.keys() == second.keys() and all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def assert_same_run(out, complete):
    assert losses(out) == pytest.approx(losses(complete), abs=1e-5)
    assert len(losses(out)) == 5
    assert equal_weights(out, complete)


def calibrate(folder) -> bytes:
    """Write PQPP's options to the folder's card, and return the card."""
    replace(AdapterCard.read(folder), prompters={"pqpp": {"points": 9, "sure_yes": 0.6}}).write(folder)
    return (folder / CARD).read_bytes()


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_a_lora_learns_and_loads_again_and_the_base_keeps_its_weights(family, tmp_path):
    folder = build(family, tmp_path / "base")
    mllm = load(folder)
    before, first = {name: value.clone() for name, value in mllm.model.state_dict().items()}, loss_of(mllm)
    out = finetune(mllm, row, replace(STEPS, max_steps=6, lora=LORA), tmp_path / "out")
    adapted = load(folder, adapter=out)
    assert loss_of(adapted) < first - 0.1
    assert adapted.dialect == mllm.dialect
    adapted_weights = {name.replace(".base_layer", ""): value for name, value in adapted.model.state_dict().items()}
    for weights in (load(folder).model.state_dict(), adapted_weights):
        assert all(torch.equal(weights[name], before[name]) for name in before)


def test_all_weights_can_be_trained_and_the_complete_model_is_written(base, train, tmp_path):
    out = train(tmp_path, max_steps=6, learning_rate=3e-3, lora=None)
    assert loss_of(load(out)) < loss_of(load(base)) - 0.1


def test_rows_are_read_in_the_order_of_their_numbers(train, tmp_path):
    read = []
    train(tmp_path, lambda index: (read.append(index), row(index))[1], max_steps=2, gradient_accumulation_steps=2)
    assert read == list(range(8))


def interrupt(_):
    signal.raise_signal(signal.SIGINT)


def fail_to_read(_):
    raise UserError("sample 7: cannot read 7.png")


def run_out_of_memory(_):
    raise torch.OutOfMemoryError("CUDA out of memory")


def poison(mllm):
    mllm.model.get_output_embeddings().weight.data.fill_(float("nan"))


@pytest.mark.parametrize(
    ("after", "end", "changes", "error", "message", "checkpoints"),
    [
        (7, die, {}, Stopped, "", [2]),
        (6, interrupt, {}, KeyboardInterrupt, "Stopped after step 3 of 5; the checkpoint is saved, and the same", [3]),
        (7, fail_to_read, {"save_steps": 100}, UserError, "cannot read 7.png", [2]),
        (7, run_out_of_memory, {}, UserError, "out of memory", [2]),
        (7, poison, {"save_total_limit": 9}, UserError, "diverged at step [34]: .*learning_rate than 0.01", [2]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_run_that_ended_early_resumes_to_the_same_losses_and_weights(
    base, train, complete, tmp_path, caplog, after, end, changes, error, message, checkpoints
):
    mllm = load(base)
    with pytest.raises(error) as raised:
        train(tmp_path, rows_until(after, end, mllm), mllm, **changes)
    assert re.search(message, f"{raised.value}{caplog.text}")
    assert "\n" not in str(raised.value)
    assert steps_of(tmp_path) == checkpoints
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    train(tmp_path, **changes)
    assert_same_run(tmp_path, complete)


def test_a_kill_during_a_save_leaves_the_previous_checkpoint(train, complete, tmp_path, monkeypatch):
    save = SFTTrainer._save_optimizer_and_scheduler
    with monkeypatch.context() as patch:
        patch.setattr(
            SFTTrainer,
            "_save_optimizer_and_scheduler",
            lambda self, folder: die() if folder.endswith("-4") else save(self, folder),
        )
        with pytest.raises(Stopped):
            train(tmp_path)
    assert (tmp_path / "checkpoints" / "checkpoint-4" / "adapter_model.safetensors").is_file()
    assert steps_of(tmp_path) == [2], "the previous checkpoint is still there"
    train(tmp_path)
    assert_same_run(tmp_path, complete)


def test_a_full_disk_gives_one_error_line_and_the_run_resumes(train, complete, tmp_path, monkeypatch):
    save = torch.save

    def fail(value, file, **options):
        if "checkpoint-4" in str(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(value, file, **options)

    message = r"cannot write into .*checkpoints: No space left on device; free some space"
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        with pytest.raises(UserError, match=message):
            train(tmp_path)
    assert steps_of(tmp_path) == [2]
    train(tmp_path)
    assert_same_run(tmp_path, complete)


def test_workers_make_the_same_rows(train, complete, tmp_path):
    log = tmp_path / "log"

    def logged_row(index):
        with log.open("a") as file:
            file.write(f"{index} {os.getpid()}\n")
        return row(index)

    assert_same_run(train(tmp_path / "out", logged_row, dataloader_num_workers=2), complete)
    rows, processes = zip(*(line.split() for line in log.read_text().splitlines()), strict=True)
    assert sorted(map(int, rows)) == list(range(10))
    assert len({*processes}) == 2
    assert str(os.getpid()) not in processes


def test_an_error_in_a_worker_gives_one_line(train, tmp_path):
    with pytest.raises(UserError, match=r"^sample 7: cannot read 7\.png$"):
        train(tmp_path, rows_until(2, fail_to_read), dataloader_num_workers=1)


@pytest.mark.parametrize("missing", [None, "adapter_model.safetensors", CARD])
def test_a_finished_run_reads_no_row_and_writes_missing_files_again(train, complete, tmp_path, missing):
    out = shutil.copytree(complete, tmp_path / "out")
    if missing:
        (out / missing).unlink()
    train(out, rows_until(0, die))
    for name in ("adapter_model.safetensors", CARD):
        assert (out / name).read_bytes() == (complete / name).read_bytes()


@pytest.mark.parametrize("lora", [STEPS.lora, None], ids=["adapter", "all weights"])
def test_weights_of_the_last_step_are_not_written_again(train, tmp_path, caplog, lora):
    out = train(tmp_path, max_steps=2, lora=lora)
    card, files = calibrate(out), [path for path in out.iterdir() if path.suffix in (".json", ".safetensors")]
    before = [path.stat().st_mtime_ns for path in files]
    train(out, max_steps=2, lora=lora)
    assert (out / CARD).read_bytes() == card
    assert [path.stat().st_mtime_ns for path in files] == before
    assert f"{out} already contains these weights: its sam4mllm.json is not changed." in caplog.text


def test_repeated_steps_with_equal_weights_keep_the_card_and_update_the_figures(train, tmp_path):
    changes = {"max_steps": 2, "save_steps": 1, "lora": LORA}
    out = train(tmp_path, scoring=Scoring(lambda _: {"cIoU": 0.6}), **changes)
    card = calibrate(out)
    shutil.rmtree(out / "checkpoints" / "checkpoint-2")
    train(out, scoring=Scoring(lambda _: {"cIoU": 0.3}, measured_by={"segmenter": "b"}), **changes)
    assert (out / CARD).read_bytes() == card
    assert "0.6000" not in (out / "README.md").read_text()


def test_new_weights_drop_the_options_on_the_old_card_with_a_warning(train, tmp_path, caplog):
    train(tmp_path, max_steps=2)
    calibrate(tmp_path)
    assert "dropped" not in caplog.text
    train(tmp_path)
    assert AdapterCard.read(tmp_path).prompters == {}
    dropped = "the options of pqpp on the old card are dropped (points 9, sure_yes 0.6)."
    assert f"New weights in {tmp_path}: {dropped}" in caplog.text


@pytest.mark.parametrize("older", [False, True], ids=["empty folder", "older adapter"])
def test_a_kill_while_the_adapter_is_written_leaves_no_card(train, complete, tmp_path, monkeypatch, older):
    save = PeftModel.save_pretrained

    def killed(self, folder, **options):
        save(self, folder, **options)
        if folder == tmp_path:
            raise Stopped

    if older:
        train(tmp_path, max_steps=2)
        calibrate(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(PeftModel, "save_pretrained", killed)
        with pytest.raises(Stopped):
            train(tmp_path)
    assert not (tmp_path / CARD).exists()
    train(tmp_path)
    assert AdapterCard.read(tmp_path) == AdapterCard.read(complete)


def test_a_learning_rate_that_is_far_too_high_never_gives_an_adapter(train, tmp_path):
    with pytest.raises(UserError, match=r"lower training\.learning_rate than 1e\+30"):
        train(tmp_path, learning_rate=1e30, save_steps=1)
    assert not (tmp_path / "adapter_model.safetensors").exists()
    for path in tmp_path.rglob("adapter_model.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())


def test_a_complete_checkpoint_is_not_written_again_after_an_error(train, tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, rows_until(7, die))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint-2/*")}
    with pytest.raises(UserError, match="cannot read"):
        train(tmp_path, rows_until(0, fail_to_read))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint-2/*")} == before


def test_a_run_resumes_to_the_same_losses_with_less_memory_and_other_intervals(train, tmp_path):
    undisturbed = train(tmp_path / "undisturbed", lora=LORA)  # without dropout, which is drawn once per batch
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        train(out, rows_until(7, die), lora=LORA)
    memory = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "gradient_checkpointing": True}
    train(out, lora=LORA, **memory, save_steps=1, save_total_limit=9)
    assert losses(out) == pytest.approx(losses(undisturbed), abs=1e-5)
    assert steps_of(out) == [2, 3, 4, 5]


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "molmo2"])
def test_the_loss_of_a_step_is_the_mean_over_its_tokens_for_any_batch_size(family, tmp_path):
    """Some classes have a loss that ignores the step's token count: it gives the mean of the batches' means."""
    folder = build(family, tmp_path / "base")
    one_batch, batches = (
        losses(
            finetune(
                load(folder),
                uneven,
                replace(
                    STEPS,
                    max_steps=2,
                    lora=LORA,
                    per_device_train_batch_size=size,
                    gradient_accumulation_steps=4 // size,
                ),
                tmp_path / str(size),
            )
        )
        for size in (4, 1)
    )
    assert batches == pytest.approx(one_batch, abs=1e-5)
    mean_of_rows = np.mean([loss_of(load(folder), [uneven(index)]) for index in range(4)])
    assert one_batch[1] != pytest.approx(mean_of_rows, abs=1e-4)


def test_one_of_several_gpus_is_used_with_a_warning(caplog, tmp_path):
    args = sft_config(STEPS, tmp_path, on_cpu=True)
    args._n_gpu = 4
    _use_one_gpu(args, torch.device("cuda:0"))
    assert args.n_gpu == 1
    assert "Using one of 4 GPUs: `accelerate launch" in caplog.text
    args._n_gpu = 4
    with pytest.raises(UserError, match="got device cuda:1: set CUDA_VISIBLE_DEVICES instead"):
        _use_one_gpu(args, torch.device("cuda:1"))


def test_another_base_may_start_only_if_there_is_no_checkpoint(base, train, tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, rows_until(0, die))
    train(tmp_path, mllm=load(base, dialect="gemma"), max_steps=1)
    assert load(base, adapter=tmp_path).dialect.name == "gemma"
    with pytest.raises(UserError, match="belong to another base or dialect"):
        train(tmp_path)


def test_the_last_and_the_best_checkpoint_are_kept_and_are_adapters(base, train, tmp_path, capsys):
    scores = {1: 0.0, 2: 0.1, 3: 0.7, 4: 0.2, 5: 0.3}
    out = train(tmp_path, save_steps=1, scoring=Scoring(lambda step: {"cIoU": scores.pop(step), "box": 0.5}, every=1))
    assert not scores, "each step is scored once"
    assert steps_of(out) == [3, 5]
    best = load(base, adapter=out / "checkpoints" / "checkpoint-3")
    assert loss_of(best) != pytest.approx(loss_of(load(base, adapter=out)), abs=1e-6)
    assert len(losses(out)) == 5, "validation does not suppress the log of a loss"
    stderr = capsys.readouterr().err
    assert "step 3 of 5 | validation: cIoU 0.700, box 0.500\n" in stderr
    assert re.search(r"step 3 of 5 \| loss \d+\.\d{3} \| 0:00:\d\d left\n", stderr)
    assert "| validation: cIoU, step 5 | 0.3000 |" in (out / "README.md").read_text()


def test_a_resumed_run_compares_only_scores_with_the_current_settings(train, tmp_path, caplog):
    scoring = Scoring(lambda _: {"cIoU": 0.6}, 1, {"segmenter": "a"})
    with pytest.raises(Stopped):
        train(tmp_path, rows_until(7, die), save_steps=1, scoring=scoring)
    assert "settings changed" not in caplog.text
    scores = {3: 0.3, 4: 0.4, 5: 0.2}
    train(tmp_path, save_steps=1, scoring=Scoring(lambda step: {"cIoU": scores[step]}, 1, {"segmenter": "b"}))
    assert "Validation settings changed (segmenter)" in caplog.text
    assert steps_of(tmp_path) == [4, 5]
    assert "highest cIoU, step 4 (`checkpoints/checkpoint-4`) | 0.4000 |" in (tmp_path / "README.md").read_text()


def test_validation_does_not_affect_the_training(base, train, complete, tmp_path):
    mllm = load(base, max_new_tokens=8)

    def score(_):
        mllm.open([IMAGES[0]]).answer(["Where is the cat?"])
        return {"cIoU": 0.0}

    assert_same_run(train(tmp_path, mllm=mllm, scoring=Scoring(score, every=2)), complete)


def test_checkpointed_activations_are_computed_twice_for_the_same_gradients(base, train, complete, tmp_path):
    mllm, passes = load(base), []
    mllm.model.get_decoder().layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    train(tmp_path, mllm=mllm, gradient_checkpointing=True)
    assert len(passes) == 2 * STEPS.max_steps
    assert losses(tmp_path) == pytest.approx(losses(complete), abs=1e-4)


@pytest.mark.parametrize("family", ["llava", "gemma3"])
def test_mixed_precision_trains_in_float32_on_a_base_in_bfloat16(family, train, tmp_path):
    folder = build(family, tmp_path / "base")
    mllm = load(folder, dtype="bfloat16", max_new_tokens=8)
    scoring = Scoring(lambda _: {"cIoU": float(len(mllm.open([IMAGES[0]]).answer(["Where is the cat?"])))})
    out = train(tmp_path / "out", mllm=mllm, scoring=scoring, bf16=True)
    assert {value.dtype for value in load_file(out / "adapter_model.safetensors").values()} == {torch.float32}
    assert loss_of(load(folder, dtype="bfloat16", adapter=out)) == loss_of(mllm)


def test_reports_are_written_by_the_named_integration(train, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, report_to=("tensorboard",), scoring=Scoring(lambda _: {"cIoU": 0.25}))
    [folder] = {file.parent for file in tmp_path.rglob("events.out.tfevents.*")}
    events = EventAccumulator(str(folder)).Reload()
    reported = {scalar.step: scalar.value for scalar in events.Scalars("train/loss")}
    assert reported == pytest.approx(losses(tmp_path), abs=1e-6)
    [validation] = [name for name in events.Tags()["scalars"] if "validation" in name]
    assert [(scalar.step, scalar.value) for scalar in events.Scalars(validation)] == [(STEPS.max_steps, 0.25)]


def test_the_first_and_the_last_loss_are_logged(train, tmp_path, capsys):
    train(tmp_path, logging_steps=100)
    assert list(losses(tmp_path)) == [1, 5]
    assert re.findall("step (.) of 5 [|] loss", capsys.readouterr().err) == ["1", "5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"optim": "grokadamw"}, "grokadamw", id="missing package"),
        pytest.param({"lr_scheduler_kwargs": {"powers": 2}}, "unexpected keyword argument 'powers'", id="schedule"),
    ],
)
def test_an_optimizer_that_cannot_be_built_gives_one_error_line(train, tmp_path, changes, message):
    with pytest.raises(UserError, match=f"cannot build training.optim or its schedule: .*{message}") as raised:
        train(tmp_path, **changes)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"optim": "adafactor"},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.5}},
        {"loss_type": "dft"},
    ],
)
def test_other_arguments_of_the_library_are_used(train, complete, tmp_path, changes):
    out = train(tmp_path, **changes)
    assert losses(out)[1] != losses(out)[5]
    assert not equal_weights(out, complete)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "choose from .*tensorboard"),
        ("tensorboard", r"pip install sam4mllm\[tensorboard\]"),
        ("wandb", "pip install wandb"),
    ],
)
def test_a_missing_report_integration_is_an_error(name, message, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=message):
        check_reports([name])
