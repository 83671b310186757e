"""Ends before the last step: an interrupt waits for the step's end; lack of memory or room says what to do."""

import errno
import multiprocessing
import resource
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from sam4mllm.errors import UserError
from sam4mllm.training.callbacks import Stop, StopOnDivergence, is_finite
from sam4mllm.training.failures import disk_errors_as_user_errors, memory_errors_as_user_errors


def test_an_interrupt_saves_after_the_current_step():
    stop, control = Stop(), SimpleNamespace(should_save=False, should_training_stop=False)
    before = signal.getsignal(signal.SIGINT)
    with stop.handle_interrupts():
        stop.on_step_end(None, None, control)
        assert not control.should_training_stop
        signal.raise_signal(signal.SIGINT)
        stop.on_step_end(None, None, control)
        assert control.should_save
        assert control.should_training_stop
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_stops_immediately():
    stop = Stop()
    with stop.handle_interrupts():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_threads_do_not_handle_interrupts():
    seen = []

    def listens():
        with Stop().handle_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=listens)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), id="device"),
        pytest.param(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), id="CPU"),
        pytest.param(MemoryError("Unable to allocate 7.45 GiB for an array"), id="numpy"),
    ],
)
def test_an_out_of_memory_error_names_options_to_change(error):
    says = r"out of memory.*train_batch_size.*accumulation.*gradient_checkpointing.* new out.*per_image.*quantize"
    with pytest.raises(UserError, match=says) as raised, memory_errors_as_user_errors():
        raise error
    assert "\n" not in str(raised.value)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"), memory_errors_as_user_errors():
        raise RuntimeError("shape mismatch")


@pytest.fixture
def small_files():
    """Files hold at most 100 kB, as on a disk with no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: path.write_text("a" * 10**6), id="python"),
        pytest.param(lambda path: save_file({"a": torch.zeros(10**6)}, path), id="safetensors"),
        pytest.param(lambda path: torch.save({"a": torch.zeros(10**6)}, path), id="torch"),
    ],
)
def test_a_full_disk_gives_one_error_line(small_files, tmp_path, write):
    says = r"cannot write into checkpoints: .*(File too large|to its end); free some space"
    with pytest.raises(UserError, match=says) as raised, disk_errors_as_user_errors(Path("checkpoints")):
        write(tmp_path / "file")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(errno.ENOENT, "No such file or directory"), id="python"),
        pytest.param(RuntimeError("shape mismatch"), id="torch"),
        pytest.param(RuntimeError("I/O error: No such file or directory (os error 2)"), id="safetensors"),
    ],
)
def test_errors_unrelated_to_disk_space_pass(error):
    with pytest.raises(type(error)) as raised, disk_errors_as_user_errors(Path("checkpoints")):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("value", "trained", "ends"),
    [
        pytest.param(1e38, True, False, id="large"),
        pytest.param(float("nan"), False, False, id="not trained"),
        pytest.param(float("nan"), True, True, id="nan"),
        pytest.param(float("inf"), True, True, id="inis_finite"),
    ],
)
def test_nan_or_inf_weights_stop_the_training(value, trained, ends):
    model = torch.nn.ParameterList([torch.ones(3), torch.tensor([[1.0, value]])])
    model[1].requires_grad = trained
    step = lambda: StopOnDivergence().on_step_end(  # noqa: E731
        SimpleNamespace(learning_rate=0.5), SimpleNamespace(global_step=7), None, model
    )
    if ends:
        with pytest.raises(UserError, match=r"diverged at step 7: .* lower training.learning_rate than 0.5"):
            step()
    else:
        step()


def sharded(rank, folder, seen):
    """One of two processes, that share the weights of two models; of one of them what the second holds is no number."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for value in (1.0, float("nan")):
        weights = distribute_tensor(torch.tensor([1.0, 1.0, 1.0, value]), mesh, [Shard(0)])
        seen.put((rank, value == 1, is_finite(torch.nn.ParameterList([torch.nn.Parameter(weights)]))))
    dist.destroy_process_group()


def test_each_process_checks_its_shard_of_the_weights(tmp_path):
    several = multiprocessing.get_context("fork")
    seen = several.Queue()
    processes = [several.Process(target=sharded, args=(rank, tmp_path, seen)) for rank in (0, 1)]
    for each in processes:
        each.start()
    found = sorted(seen.get(timeout=60) for _ in range(4))
    for each in processes:
        each.join()
    assert found == [(0, False, True), (0, True, True), (1, False, False), (1, True, True)]
