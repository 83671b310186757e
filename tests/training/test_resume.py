"""A run resumes if the settings of rows, weights and schedule are equal; other settings may change."""

import fnmatch
from dataclasses import asdict
from pathlib import Path

import pytest

from sam4mllm.data.samples import write_samples
from sam4mllm.errors import UserError
from sam4mllm.runtime.provenance import flatten
from sam4mllm.runtime.settings import load
from sam4mllm.training.checkpoints import seal
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.resume import MAY_CHANGE, RECORD, RENAMED, check_resumable, identity_of, write_record
from sam4mllm.training.trainer import CHECKPOINTS
from tests.paths import ROOT
from tests.teaching import sample

LORA = ROOT / "recipes" / "lora.yaml"
SET = [
    "data.0.samples=set",
    "data.0.targets=null",
    "training.per_device_train_batch_size=2",
    "training.gradient_accumulation_steps=2",
]


def identity(*overrides: str, processes: int = 1) -> dict[str, object]:
    recipe = load(LORA, FinetuneConfig, [*SET, *overrides])
    return identity_of(recipe.to_yaml(), recipe.training.rows_per_step(processes))


@pytest.fixture
def out(tmp_path, monkeypatch) -> Path:
    """A run's folder with a complete checkpoint; the samples are next to it."""
    monkeypatch.chdir(tmp_path)
    write_samples([sample("a")], Path("set"), Path("images"))
    write_samples([sample("b")], Path("other"), Path("images"))
    write_record(Path("out"), identity())
    checkpoint(Path("out"))
    return Path("out")


def checkpoint(out: Path) -> None:
    (out / CHECKPOINTS / "checkpoint-2").mkdir(parents=True)
    seal(out / CHECKPOINTS / "checkpoint-2")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["training.per_device_train_batch_size=1", "training.gradient_accumulation_steps=4"],
        ["training.gradient_checkpointing=false"],
        ["training.save_steps=1", "training.logging_steps=1", "training.save_total_limit=7"],
        ["training.report_to=[tensorboard]"],
        ["validation={samples: a, segmenter: grabcut}"],
        ["pqpp={points: 9}"],
        ["device=cpu", "attention=eager"],
        ["out=moved", "data.0.images=moved"],
    ],
)
def test_settings_that_do_not_affect_the_weights_may_change(out, overrides):
    check_resumable(out, identity(*overrides), resume=True)


def test_samples_may_be_moved_and_processes_may_share_the_batch(out):
    Path("set").rename("elsewhere")
    check_resumable(out, identity("data.0.samples=elsewhere"), resume=True)
    moved = identity("data.0.samples=elsewhere", "training.per_device_train_batch_size=1", processes=2)
    check_resumable(out, moved, resume=True)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("overrides", "processes", "says"),
    [
        (["training.learning_rate=1e-3"], 1, "training.learning_rate 0.0001, now 0.001"),
        (["training.max_steps=2000"], 1, "training.max_steps 3000, now 2000"),
        (["training.per_device_train_batch_size=1"], 1, "rows a step 4, now 2"),
        ([], 3, "rows a step 4, now 12"),
        (["rows.seed=1"], 1, "rows.seed 0, now 1"),
        (["training.lora.target_modules=[q_proj]"], 1, "training.lora.target_modules.0 nothing, now q_proj"),
        (["mllm=other"], 1, "mllm Qwen/Qwen2.5-VL-7B-Instruct, now other"),
        (["data.0.samples=other"], 1, r"data.0.samples sha256:\w{12}, now sha256:\w{12}"),
        (["data.1.samples=other"], 1, "data.1.samples nothing, now sha256:"),
        (["data.0.weight=2"], 1, "data.0.weight 1.0, now 2.0"),
    ],
)
def test_a_change_that_affects_the_weights_is_refused(out, overrides, processes, says, resume):
    message = f"^out was started with .*{says}.*: use the values it was started with"
    with pytest.raises(UserError, match=message) as raised:
        check_resumable(out, identity(*overrides, processes=processes), resume)
    assert "\n" not in str(raised.value)


def test_changed_data_at_the_same_path_is_refused(out):
    write_samples([sample("a", phrase="the mug")], Path("set"), Path("images"))
    with pytest.raises(UserError, match=r"started with data\.0\.samples sha256:"):
        check_resumable(out, identity(), resume=True)


def test_an_error_lists_at_most_three_differences(out):
    changed = identity("rows.seed=1", "training.seed=1", "training.max_steps=1", "dtype=auto")
    with pytest.raises(UserError, match=r"with training\.max_steps 3000, now 1; [^;]*; [^;]*; \.\.\.: use"):
        check_resumable(out, changed, resume=True)


def test_each_pattern_matches_a_recipe_key():
    recipe = load(LORA, FinetuneConfig, ["validation={samples: a, segmenter: b}", "training.report_to=[wandb]"])
    keys = flatten(asdict(recipe))
    assert all(fnmatch.filter(keys, pattern) for pattern in MAY_CHANGE)


def test_without_a_checkpoint_any_run_may_start_and_resume_warns(out, caplog):
    (out / CHECKPOINTS / "checkpoint-2" / "whole.json").unlink()
    check_resumable(out, identity(), resume=False)
    check_resumable(out, identity("rows.seed=1"), resume=False)
    assert not caplog.text
    check_resumable(out, identity(), resume=True)
    assert "out has no checkpoint: the run starts from the first step." in caplog.text
    with pytest.raises(UserError, match=r"rows\.seed 0, now 1"):
        check_resumable(out, identity("rows.seed=1"), resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_changed_checkpoint_is_reported_and_not_overwritten(out, resume):
    last = out / CHECKPOINTS / "checkpoint-4"
    last.mkdir()
    (last / "optimizer.pt").write_text("whole")
    seal(last)
    (last / "optimizer.pt").write_text("cut")
    message = r"^out/checkpoints/checkpoint-4 was complete, but optimizer\.pt has changed since"
    with pytest.raises(UserError, match=message):
        check_resumable(out, identity(), resume)


def test_resume_fails_if_no_run_was_started(tmp_path):
    check_resumable(tmp_path / "out", {}, resume=False)
    with pytest.raises(UserError, match="nothing to resume: no run was started in"):
        check_resumable(tmp_path / "out", {}, resume=True)
    assert not (tmp_path / "out").exists()


def test_checkpoints_without_a_record_are_not_resumed(out):
    (out / CHECKPOINTS / RECORD).unlink()
    with pytest.raises(UserError, match=r"out/checkpoints has no run\.json, .* set another out"):
        check_resumable(out, identity(), resume=False)


@pytest.mark.parametrize("text", ["{", "[1]", "\x80"])
def test_a_damaged_record_is_reported(out, text):
    (out / CHECKPOINTS / RECORD).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"cannot read .*run\.json, the record of the run"):
        check_resumable(out, identity(), resume=False)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("noted", [True, False])
def test_weights_without_a_checkpoint_are_not_overwritten(out, name, noted):
    (out / name).write_text("weights")
    check_resumable(out, identity(), resume=False)
    (out / CHECKPOINTS / "checkpoint-2" / "whole.json").unlink()
    if not noted:
        (out / CHECKPOINTS / RECORD).unlink()
    message = f"out already contains {name} but no checkpoint to resume from: set another out"
    with pytest.raises(UserError, match=message):
        check_resumable(out, identity(), resume=False)


def as_version_0_1_wrote_it(identity: dict[str, object]) -> dict[str, object]:
    old = {new: key for key, new in RENAMED.items() if not key.endswith(("warmup_ratio", "checkpointing", "kwargs"))}
    defaults = {"training.lr_scheduler_type": "linear", "training.max_grad_norm": 1.0, "training.adam_beta2": 0.999}
    note = {old.get(key, key): value for key, value in {**identity, **defaults}.items()}
    return {key: value for key, value in note.items() if "init_lora" not in key}


def test_a_record_of_version_0_1_is_read_with_the_current_names(out):
    note = as_version_0_1_wrote_it(identity())
    assert {"training.steps", "training.schedule", "training.lora.rank", "training.lora.targets"} <= note.keys()
    write_record(out, note)
    check_resumable(out, identity(), resume=True)
    changed = identity("training.max_steps=1", "training.lora.r=4", "training.optim=adafactor")
    with pytest.raises(UserError, match=r"max_steps 3000, now 1; training\.lora\.r 16, now 4; training\.optim"):
        check_resumable(out, changed, resume=True)
    note["training.lora.targets.0"] = "*.q_proj"
    del note["training.lora.targets"]
    write_record(out, note)
    check_resumable(out, identity("training.lora.target_modules=['*.q_proj']"), resume=True)
    with pytest.raises(UserError, match="target_modules"):
        check_resumable(out, identity(), resume=True)
