"""Interrupts, full memory, full disks, and weights that are NaN or Inf."""

import errno
import multiprocessing
import resource
import signal
import threading
from contextlib import nullcontext
from functools import partial
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

DIVERGED = "diverged at step 7: .* lower training.learning_rate than 0.5"


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
    handlers = []

    def listen():
        with Stop().handle_interrupts():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), id="device"),
        pytest.param(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), id="CPU"),
        pytest.param(MemoryError("Unable to allocate 7.45 GiB for an array"), id="numpy"),
    ],
)
def test_an_out_of_memory_error_names_options_to_change(error):
    message = r"out of memory.*train_batch_size.*accumulation.*gradient_checkpointing.* new out.*per_image.*quantize"
    with pytest.raises(UserError, match=message) as raised, memory_errors_as_user_errors():
        raise error
    assert "\n" not in str(raised.value)


@pytest.fixture
def small_files():
    """Limit files to 100 kB, as if the disk were full."""
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
    message = r"cannot write into checkpoints: .*(File too large|to its end); free some space"
    with pytest.raises(UserError, match=message) as raised, disk_errors_as_user_errors(Path("checkpoints")):
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
@pytest.mark.parametrize("context", [memory_errors_as_user_errors, partial(disk_errors_as_user_errors, Path("out"))])
def test_other_errors_pass(context, error):
    with pytest.raises(type(error)) as raised, context():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("value", "trained", "expectation"),
    [
        pytest.param(1e38, True, nullcontext(), id="large"),
        pytest.param(float("nan"), False, nullcontext(), id="not trained"),
        pytest.param(float("nan"), True, pytest.raises(UserError, match=DIVERGED), id="nan"),
        pytest.param(float("inf"), True, pytest.raises(UserError, match=DIVERGED), id="inf"),
    ],
)
def test_nan_or_inf_weights_stop_the_training(value, trained, expectation):
    model = torch.nn.ParameterList([torch.ones(3), torch.tensor([[1.0, value]])])
    model[1].requires_grad = trained
    with expectation:
        StopOnDivergence().on_step_end(SimpleNamespace(learning_rate=0.5), SimpleNamespace(global_step=7), None, model)


def check_shard(rank, folder, results):
    """One of two processes that share the weights of two models; the shard of the second process may be NaN."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for value in (1.0, float("nan")):
        weights = distribute_tensor(torch.tensor([1.0, 1.0, 1.0, value]), mesh, [Shard(0)])
        results.put((rank, value == 1, is_finite(torch.nn.ParameterList([torch.nn.Parameter(weights)]))))
    dist.destroy_process_group()


def test_each_process_checks_its_shard_of_the_weights(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=check_shard, args=(rank, tmp_path, results)) for rank in (0, 1)]
    for process in processes:
        process.start()
    received = sorted(results.get(timeout=60) for _ in range(4))
    for process in processes:
        process.join()
    assert received == [(0, False, True), (0, True, True), (1, False, False), (1, True, True)]
