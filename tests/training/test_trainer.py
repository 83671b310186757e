"""Training through TRL on small random models: it learns, leaves the base as it was, goes on, and loads again."""

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
from sam4mllm.training.checkpoints import complete_checkpoints, last_complete_checkpoint
from sam4mllm.training.config.training import Lora, Training
from sam4mllm.training.prepare import check_reports
from sam4mllm.training.trainer import _use_one_gpu, finetune, sft_config
from tests.families import build

pytestmark = [
    # peft and trl ask transformers for properties by names that it deprecates
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
PICTURES = [np.full((40, 60, 3), shade, dtype=np.uint8) for shade in (40, 200)]


def row(index):
    said = ("[100,200,300,400]", "none")[index % 2]
    return PICTURES[index % 2], [Turn("user", "Where is the cat?"), Turn("assistant", said)]


def loss_of(mllm) -> float:
    with torch.no_grad():
        return float(mllm.model(**mllm.rows([row(0), row(1)])).loss)


@pytest.fixture(params=["llava", "qwen2_5_vl"])
def folder(request, tmp_path):
    return build(request.param, tmp_path / "base")


def load(folder, **options):
    return HfMLLM.load(folder, device="cpu", **options)


def test_a_lora_learns_and_loads_again_and_the_base_keeps_its_weights(folder, tmp_path):
    mllm = load(folder)
    before, first = {name: value.clone() for name, value in mllm.model.state_dict().items()}, loss_of(mllm)
    out = finetune(
        mllm,
        row,
        Training(max_steps=6, per_device_train_batch_size=2, learning_rate=1e-2, lora=Lora(r=4, lora_alpha=8)),
        tmp_path / "out",
    )
    again = load(folder, adapter=out)
    assert loss_of(again) < first - 0.1
    assert again.dialect == mllm.dialect
    after = load(folder).model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    kept = {name.replace(".base_layer", ""): value for name, value in again.model.state_dict().items()}
    assert all(torch.equal(kept[name], before[name]) for name in before)


def test_all_weights_can_be_trained_and_the_whole_model_is_written(tmp_path):
    mllm = load(build("llava", tmp_path / "base"))
    first = loss_of(mllm)
    out = finetune(
        mllm, row, Training(max_steps=6, per_device_train_batch_size=2, learning_rate=3e-3, lora=None), tmp_path / "out"
    )
    assert loss_of(load(out)) < first - 0.1


def test_rows_come_in_the_order_of_their_numbers(tmp_path):
    asked = []

    def noted(index):
        asked.append(index)
        return row(index)

    finetune(
        load(build("llava", tmp_path / "base")),
        noted,
        Training(max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2),
        tmp_path / "out",
    )
    assert asked == list(range(8))


def logged(out) -> dict[int, float]:
    """The losses of the last checkpoint's log, by step."""
    state = json.loads((last_complete_checkpoint(out / "checkpoints") / "trainer_state.json").read_text())
    return {entry["step"]: entry["loss"] for entry in state["log_history"] if "loss" in entry}


def weights(out) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter_model.safetensors")


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)


class Stopped(Exception):
    """An end without warning."""


STEPS = Training(
    max_steps=5,
    per_device_train_batch_size=2,
    learning_rate=1e-2,
    lora=Lora(r=4, lora_alpha=8, lora_dropout=0.1),
    save_steps=2,
    logging_steps=1,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build("llava", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """The adapter of an undisturbed run of `STEPS`."""
    return finetune(load(base), row, STEPS, tmp_path_factory.mktemp("whole"))


def ending(after: int, how):
    """Rows until so many were asked for: the trainer fetches a batch ahead, so 7 are asked before step 3."""
    asked = []

    def rows(index):
        asked.append(index)
        if len(asked) == after + 1:
            how()
        return row(index)

    return rows


def dies():
    raise Stopped


def test_a_run_that_died_goes_on_to_the_same_losses_and_weights(base, whole, tmp_path):
    with pytest.raises(Stopped):
        finetune(load(base), ending(7, dies), STEPS, tmp_path)
    assert list(complete_checkpoints(tmp_path / "checkpoints")) == [2]
    finetune(load(base), row, STEPS, tmp_path)
    assert logged(tmp_path) == pytest.approx(logged(whole), abs=1e-5)
    assert len(logged(tmp_path)) == 5
    assert same(weights(tmp_path), weights(whole))


def test_workers_make_the_same_rows(base, whole, tmp_path):
    made = tmp_path / "made"

    def here(index):
        with made.open("a") as file:
            file.write(f"{index} {os.getpid()}\n")
        return row(index)

    finetune(load(base), here, replace(STEPS, dataloader_num_workers=2), tmp_path / "out")
    assert logged(tmp_path / "out") == pytest.approx(logged(whole), abs=1e-5)
    rows, processes = zip(*(line.split() for line in made.read_text().splitlines()), strict=True)
    assert sorted(map(int, rows)) == list(range(10))
    assert len({*processes}) == 2
    assert str(os.getpid()) not in processes


def test_what_a_worker_refuses_is_one_line(base, tmp_path):
    def refused():
        raise UserError("sample a: no such file: a.png")

    with pytest.raises(UserError, match=r"^sample a: no such file: a\.png$"):
        finetune(load(base), ending(2, refused), replace(STEPS, dataloader_num_workers=1), tmp_path)


def test_a_finished_run_is_finished(base, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "out")
    finetune(load(base), ending(0, dies), STEPS, out)
    assert same(weights(out), weights(whole))


def calibrated(folder):
    """The folder's card, after it was told PQPP's options."""
    replace(AdapterCard.read(folder), prompters={"pqpp": {"points": 9, "sure_yes": 0.6}}).write(folder)
    return (folder / CARD).read_bytes()


@pytest.mark.parametrize("lora", [STEPS.lora, None], ids=["adapter", "all weights"])
def test_what_was_learned_to_the_last_step_is_not_written_again(base, tmp_path, caplog, lora):
    training = replace(STEPS, max_steps=2, lora=lora)
    out = finetune(load(base), row, training, tmp_path)
    card, kept = calibrated(out), [path for path in out.iterdir() if path.suffix in (".json", ".safetensors")]
    before = [path.stat().st_mtime_ns for path in kept]
    finetune(load(base), row, training, out)
    assert (out / CARD).read_bytes() == card
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert f"{out} already contains these weights: its sam4mllm.json is not changed." in caplog.text


def test_steps_that_are_done_again_to_the_same_weights_keep_the_card_and_tell_new_figures(base, tmp_path):
    training = replace(STEPS, max_steps=2, save_steps=1, lora=Lora(r=4, lora_alpha=8))
    out = finetune(load(base), row, training, tmp_path, score=lambda _: {"cIoU": 0.6})
    card = calibrated(out)
    shutil.rmtree(out / "checkpoints" / "checkpoint-2")
    finetune(load(base), row, training, out, score=lambda _: {"cIoU": 0.3}, measured_by={"segmenter": "b"})
    assert (out / CARD).read_bytes() == card
    assert "0.6000" not in (out / "README.md").read_text()


def test_other_weights_do_not_keep_the_options_of_those_before_and_it_is_said(base, tmp_path, caplog):
    finetune(load(base), row, replace(STEPS, max_steps=2), tmp_path)
    calibrated(tmp_path)
    assert "dropped" not in caplog.text
    finetune(load(base), row, STEPS, tmp_path)
    assert AdapterCard.read(tmp_path).prompters == {}
    assert (
        f"New weights in {tmp_path}: the options of pqpp on the old card are dropped (points 9, sure_yes 0.6)."
        in caplog.text
    )


@pytest.mark.parametrize("calibrate", [False, True], ids=["nothing there", "an older adapter there"])
def test_a_kill_while_the_adapter_is_written_leaves_no_card_and_it_is_written_by_the_next(
    base, whole, tmp_path, monkeypatch, calibrate
):
    save = PeftModel.save_pretrained

    def killed(self, folder, **options):
        save(self, folder, **options)
        if folder == tmp_path:
            raise Stopped

    if calibrate:
        finetune(load(base), row, replace(STEPS, max_steps=2), tmp_path)
        calibrated(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(PeftModel, "save_pretrained", killed)
        with pytest.raises(Stopped):
            finetune(load(base), row, STEPS, tmp_path)
    assert not (tmp_path / CARD).exists()
    finetune(load(base), row, STEPS, tmp_path)
    assert AdapterCard.read(tmp_path) == AdapterCard.read(whole)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", CARD])
def test_what_is_missing_beside_the_last_checkpoint_is_written_again(base, whole, tmp_path, name):
    out = shutil.copytree(whole, tmp_path / "out")
    (out / name).unlink()
    finetune(load(base), ending(0, dies), STEPS, out)
    assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_kill_in_the_middle_of_a_save_leaves_nothing_that_is_gone_on_from(base, whole, tmp_path, monkeypatch):
    saved, save = [], SFTTrainer._save_optimizer_and_scheduler

    def killed(self, folder):
        saved.append(folder)
        if len(saved) == 2:
            raise Stopped
        save(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(SFTTrainer, "_save_optimizer_and_scheduler", killed)
        with pytest.raises(Stopped):
            finetune(load(base), row, STEPS, tmp_path)
    half = tmp_path / "checkpoints" / "checkpoint-4"
    assert (half / "adapter_model.safetensors").is_file()
    assert list(complete_checkpoints(tmp_path / "checkpoints")) == [2], "the older one is still there"
    finetune(load(base), row, STEPS, tmp_path)
    assert logged(tmp_path) == pytest.approx(logged(whole), abs=1e-5)
    assert same(weights(tmp_path), weights(whole))


def test_an_interrupt_saves_and_says_so_and_the_run_goes_on_to_the_same(base, whole, tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        finetune(load(base), ending(6, lambda: signal.raise_signal(signal.SIGINT)), STEPS, tmp_path)
    assert list(complete_checkpoints(tmp_path / "checkpoints")) == [3]
    assert "Stopped after step 3 of 5; the checkpoint is saved, and the same command resumes from it." in caplog.text
    assert not (tmp_path / "adapter_model.safetensors").exists()
    finetune(load(base), row, STEPS, tmp_path)
    assert logged(tmp_path) == pytest.approx(logged(whole), abs=1e-5)
    assert same(weights(tmp_path), weights(whole))


def test_lack_of_memory_is_the_users_to_mend_and_checkpoints_stay(base, tmp_path):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match="out of memory"):
        finetune(load(base), ending(7, full), STEPS, tmp_path)
    assert list(complete_checkpoints(tmp_path / "checkpoints")) == [2]


def test_a_diverged_training_ends_in_one_line_and_the_last_good_checkpoint_stays(base, whole, tmp_path):
    mllm = load(base)

    def poison():
        mllm.model.get_output_embeddings().weight.data.fill_(float("nan"))

    says = r"diverged at step [34]: weights are NaN or Inf; .* set a lower training.learning_rate than 0.01"
    with pytest.raises(UserError, match=says) as raised:
        finetune(mllm, ending(7, poison), replace(STEPS, save_total_limit=9), tmp_path)
    assert "\n" not in str(raised.value)
    assert list(complete_checkpoints(tmp_path / "checkpoints")) == [2]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    finetune(load(base), row, STEPS, tmp_path)
    assert same(weights(tmp_path), weights(whole))


def test_a_learning_rate_that_is_far_too_high_is_never_an_adapter(base, tmp_path):
    with pytest.raises(UserError, match=r"lower training\.learning_rate than 1e\+30"):
        finetune(load(base), row, replace(STEPS, learning_rate=1e30, save_steps=1), tmp_path)
    assert not (tmp_path / "adapter_model.safetensors").exists()
    for path in tmp_path.rglob("adapter_model.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())


def test_a_row_that_cannot_be_made_loses_no_step(base, whole, tmp_path):
    def spoilt():
        raise UserError("sample 7: cannot read 7.png")

    with pytest.raises(UserError, match="cannot read"):
        finetune(load(base), ending(7, spoilt), replace(STEPS, save_steps=100), tmp_path)
    [step] = complete_checkpoints(tmp_path / "checkpoints")
    assert step == 2
    finetune(load(base), row, replace(STEPS, save_steps=100), tmp_path)
    assert logged(tmp_path) == pytest.approx(logged(whole), abs=1e-5)
    assert same(weights(tmp_path), weights(whole))


def test_a_whole_checkpoint_is_not_written_again_for_a_row_that_cannot_be_made(base, tmp_path):
    def spoilt():
        raise UserError("sample 7: cannot read 7.png")

    with pytest.raises(Stopped):
        finetune(load(base), ending(7, dies), STEPS, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint-2/*")}
    with pytest.raises(UserError, match="cannot read"):
        finetune(load(base), ending(0, spoilt), STEPS, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint-2/*")} == before


def test_a_disk_that_fills_is_one_line_and_the_last_whole_checkpoint_is_gone_on_from(
    base, whole, tmp_path, monkeypatch
):
    save = torch.save

    def full(value, file, **options):
        if "checkpoint-4" in str(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(value, file, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(
            UserError, match=r"cannot write into .*checkpoints: No space left on device; free some space"
        ):
            finetune(load(base), row, STEPS, tmp_path)
    assert list(complete_checkpoints(tmp_path / "checkpoints")) == [2]
    finetune(load(base), row, STEPS, tmp_path)
    assert same(weights(tmp_path), weights(whole))


def test_what_needs_less_memory_and_other_intervals_go_on_to_the_same(base, tmp_path):
    begun = replace(STEPS, lora=Lora(r=4, lora_alpha=8))  # whose dropout would draw once for each batch
    undisturbed = finetune(load(base), row, begun, tmp_path / "undisturbed")
    with pytest.raises(Stopped):
        finetune(load(base), ending(7, dies), begun, tmp_path / "out")
    changed = replace(
        begun,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        gradient_checkpointing=True,
        save_steps=1,
        save_total_limit=9,
    )
    out = finetune(load(base), row, changed, tmp_path / "out")
    assert logged(out) == pytest.approx(logged(undisturbed), abs=1e-5)
    assert list(complete_checkpoints(out / "checkpoints")) == [2, 3, 4, 5]


def uneven(index):
    """Rows of one question and of three."""
    picture, turns = row(index)
    return picture, turns * (1 + index % 2 * 2)


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "molmo2"])
def test_a_step_is_the_mean_over_its_tokens_however_it_is_divided(family, tmp_path):
    """Of some classes the own loss does not take the tokens of a step, and is the mean of its parts' means."""
    folder = build(family, tmp_path / "base")
    steps = replace(STEPS, max_steps=2, lora=Lora(r=4, lora_alpha=8))
    whole = finetune(load(folder), uneven, replace(steps, per_device_train_batch_size=4), tmp_path / "whole")
    parts = finetune(
        load(folder),
        uneven,
        replace(steps, per_device_train_batch_size=1, gradient_accumulation_steps=4),
        tmp_path / "parts",
    )
    assert logged(parts) == pytest.approx(logged(whole), abs=1e-5)
    assert logged(whole)[1] != pytest.approx(np.mean([alone(folder, index) for index in range(4)]), abs=1e-4)


def alone(folder, index) -> float:
    """The mean over the tokens of one row."""
    mllm = load(folder)
    with torch.no_grad():
        return float(mllm.model(**mllm.rows([uneven(index)])).loss)


def test_of_several_gpus_one_is_used_and_it_is_said(caplog, tmp_path):
    args = sft_config(STEPS, tmp_path, on_cpu=True)
    args._n_gpu = 4
    _use_one_gpu(args, torch.device("cuda:0"))
    assert args.n_gpu == 1
    assert "Using one of 4 GPUs: `accelerate launch" in caplog.text
    args._n_gpu = 4
    with pytest.raises(UserError, match="got device cuda:1: set CUDA_VISIBLE_DEVICES instead"):
        _use_one_gpu(args, torch.device("cuda:1"))


def test_where_nothing_was_saved_another_base_may_begin(base, tmp_path):
    with pytest.raises(Stopped):
        finetune(load(base), ending(0, dies), STEPS, tmp_path)
    other = load(base, dialect="gemma")
    finetune(other, row, replace(STEPS, max_steps=1), tmp_path)
    assert load(base, adapter=tmp_path).dialect.name == "gemma"
    with pytest.raises(UserError, match="belong to another base or dialect"):
        finetune(load(base), row, STEPS, tmp_path)


def test_the_last_and_the_best_checkpoint_stay_and_are_adapters(base, tmp_path, capsys):
    figures = {2: 0.1, 3: 0.7, 4: 0.2, 5: 0.3}
    watched = []

    def watch(step):
        watched.append(step)
        return {"cIoU": figures[step], "box": 0.5}

    training = replace(STEPS, save_steps=1)
    out = finetune(
        load(base),
        row,
        training,
        tmp_path,
        score=lambda step: {"cIoU": 0.0} if step == 1 else watch(step),
        score_every=1,
    )
    assert watched == [2, 3, 4, 5]
    assert list(complete_checkpoints(out / "checkpoints")) == [3, 5]
    best = load(base, adapter=out / "checkpoints" / "checkpoint-3")
    assert loss_of(best) != pytest.approx(loss_of(load(base, adapter=out)), abs=1e-6)
    assert len(logged(out)) == 5, "no loss is lost to a look"
    said = capsys.readouterr().err
    assert "step 3 of 5 | validation: cIoU 0.700, box 0.500\n" in said
    assert re.search(r"step 3 of 5 \| loss \d+\.\d{3} \| 0:00:\d\d left\n", said)
    assert "| validation: cIoU, step 5 | 0.3000 |" in (out / "README.md").read_text()


def test_a_run_that_goes_on_has_the_best_of_those_steps_that_were_asked_as_now(base, tmp_path, caplog):
    def watched(figures, asked, rows=row):
        finetune(load(base), rows, training, tmp_path, score=figures.__getitem__, score_every=1, measured_by=asked)

    training = replace(STEPS, save_steps=1, save_total_limit=1)
    with pytest.raises(Stopped):
        watched([{"cIoU": 0.6}] * 6, {"segmenter": "a"}, ending(7, dies))
    assert "changed since" not in caplog.text
    watched({3: {"cIoU": 0.3}, 4: {"cIoU": 0.4}, 5: {"cIoU": 0.2}}, {"segmenter": "b"})
    assert "Validation settings changed (segmenter)" in caplog.text
    assert list(complete_checkpoints(tmp_path / "checkpoints")) == [4, 5]
    assert "highest cIoU, step 4 (`checkpoints/checkpoint-4`) | 0.4000 |" in (tmp_path / "README.md").read_text()


def test_looking_changes_nothing_that_is_learned(base, whole, tmp_path):
    def watch(step):
        mllm.open([PICTURES[0]]).answer(["Where is the cat?"])
        return {"cIoU": 0.0}

    mllm = load(base, max_new_tokens=8)
    finetune(mllm, row, STEPS, tmp_path, score=watch, score_every=2)
    assert logged(tmp_path) == pytest.approx(logged(whole), abs=1e-5)


def test_checkpointed_activations_are_computed_twice_for_the_same_gradients(base, whole, tmp_path):
    mllm, passes = load(base), []
    mllm.model.get_decoder().layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    finetune(mllm, row, replace(STEPS, gradient_checkpointing=True), tmp_path)
    assert len(passes) == 2 * STEPS.max_steps
    assert logged(tmp_path) == pytest.approx(logged(whole), abs=1e-4)


@pytest.mark.parametrize("family", ["llava", "gemma3"])
def test_mixed_precision_trains_in_float32_on_a_base_in_bfloat16(family, tmp_path):
    folder = build(family, tmp_path / "base")
    mllm = load(folder, dtype="bfloat16", max_new_tokens=8)

    def watch(step):
        return {"cIoU": float(len(mllm.open([PICTURES[0]]).answer(["Where is the cat?"])))}

    out = finetune(mllm, row, replace(STEPS, bf16=True), tmp_path / "out", score=watch)
    assert {value.dtype for value in weights(out).values()} == {torch.float32}
    again = load(folder, dtype="bfloat16", adapter=out)
    assert {loss_of(again), loss_of(mllm)} == {loss_of(again)}


def test_reports_go_where_the_recipe_says(base, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    finetune(load(base), row, replace(STEPS, report_to=("tensorboard",)), tmp_path, score=lambda _: {"cIoU": 0.25})
    [written] = {file.parent for file in tmp_path.rglob("events.out.tfevents.*")}
    found = EventAccumulator(str(written)).Reload()
    assert {one.step: one.value for one in found.Scalars("train/loss")} == pytest.approx(logged(tmp_path), abs=1e-6)
    [validation] = [name for name in found.Tags()["scalars"] if "validation" in name]
    assert [(one.step, one.value) for one in found.Scalars(validation)] == [(STEPS.max_steps, 0.25)]


def test_the_first_and_the_last_loss_are_logged(base, tmp_path, capsys):
    finetune(load(base), row, replace(STEPS, logging_steps=100), tmp_path)
    assert list(logged(tmp_path)) == [1, 5]
    assert [line[:11] for line in capsys.readouterr().err.splitlines() if "| loss" in line] == [
        "step 1 of 5",
        "step 5 of 5",
    ]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"optim": "grokadamw"}, "grokadamw", id="a package that is missing"),
        pytest.param({"lr_scheduler_kwargs": {"powers": 2}}, "unexpected keyword argument 'powers'", id="schedule"),
    ],
)
def test_an_optimizer_that_cannot_be_built_is_one_line(base, tmp_path, values, says):
    with pytest.raises(UserError, match=f"cannot build training.optim or its schedule: .*{says}") as raised:
        finetune(load(base), row, replace(STEPS, **values), tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [
        {"optim": "adafactor"},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.5}},
        {"loss_type": "dft"},
    ],
)
def test_any_argument_of_the_library_trains(base, whole, tmp_path, values):
    out = finetune(load(base), row, replace(STEPS, **values), tmp_path)
    assert logged(out)[1] != logged(out)[5]
    assert not same(weights(out), weights(whole))


def test_epochs_that_hold_no_row_are_refused():
    assert Training(num_train_epochs=0.5).in_steps(lambda epochs: round(epochs * 40)).max_steps == 3
    with pytest.raises(UserError, match=r"0\.02 is too low: it gives no rows"):
        Training(num_train_epochs=0.02).in_steps(lambda epochs: round(epochs * 10))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tensorbord", "choose from .*tensorboard"),
        ("tensorboard", r"pip install sam4mllm\[tensorboard\]"),
        ("wandb", "pip install wandb"),
    ],
)
def test_a_place_for_reports_that_is_not_there_is_named(name, says, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=says):
        check_reports([name])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"quantize": "8bit"}, "4bit, with a lora, or null"),
        ({"quantize": "4bit", "lora": None}, "4bit, with a lora"),
        ({"save_total_limit": 0}, "save_total_limit must be 1 or more, or null"),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers must be 0 or more"),
    ],
)
def test_what_cannot_be_meant_is_refused(values, says):
    with pytest.raises(UserError, match=says):
        Training(max_steps=1, **values)
