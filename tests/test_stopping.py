"""Ends before the last step: an interrupt waits for the step's end, and lack of memory says what needs less."""

import signal
import threading
from types import SimpleNamespace

import pytest
import torch

from sam4mllm.errors import UserError
from sam4mllm.stopping import Stop, enough_memory


def test_an_interrupt_waits_for_the_end_of_the_step_and_has_it_saved():
    stop, control = Stop(), SimpleNamespace(should_save=False, should_training_stop=False)
    before = signal.getsignal(signal.SIGINT)
    with stop.listening():
        stop.on_step_end(None, None, control)
        assert not control.should_training_stop
        signal.raise_signal(signal.SIGINT)
        stop.on_step_end(None, None, control)
        assert control.should_save
        assert control.should_training_stop
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_does_not_wait():
    stop = Stop()
    with stop.listening():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_beside_the_main_thread_nothing_is_listened_to():
    seen = []

    def listens():
        with Stop().listening():
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
    ],
)
def test_lack_of_memory_is_one_line_that_says_what_to_change(error):
    says = r"out of memory.*training.batch.*accumulate.*per_image.*quantize"
    with pytest.raises(UserError, match=says) as raised, enough_memory():
        raise error
    assert "\n" not in str(raised.value)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"), enough_memory():
        raise RuntimeError("shape mismatch")
