"""Three executors, one result; their errors, and the processes that they leave behind: none."""

import importlib.util
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from functools import partial
from multiprocessing import resource_tracker, spawn
from types import ModuleType

import pytest
import torch

from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.runtime import parallel
from sam4mllm.runtime.parallel import Executor, InProcess, ProcessPool, Ray, Work, make_executor
from sam4mllm.targets.run import SearchWork
from sam4mllm.targets.search import Search, make_targets
from tests.paths import ROOT
from tests.searching import broken, counted, dying, dying_in_a_message, grabcut, noted, pictures, refused, warning

SEARCH = Search(candidates=4, keep=2, least=0.0, fewer=1)
needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="the package ray is not installed")
ray_warnings = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> SampleSet:
    return pictures(tmp_path_factory.mktemp("pictures"), 7)


@pytest.fixture(scope="module")
def parts(samples) -> dict[int, SampleSet]:
    return {number: SampleSet(samples.samples[number : number + 1], samples.images) for number in range(7)}


@pytest.fixture
def private_ray(monkeypatch):
    """Settings for a cluster of this test's own: no authentication, no usage statistics."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.mark.parametrize(
    "executor", [InProcess(), ProcessPool(1), ProcessPool(3)], ids=["in process", "1 worker", "3 workers"]
)
def test_every_executor_gives_the_results_of_a_plain_loop(samples, parts, executor):
    assert isinstance(executor, Executor)
    assert isinstance(SearchWork(grabcut, SEARCH), Work)
    results = dict(executor.run(SearchWork(grabcut, SEARCH), parts))
    assert sorted(results) == sorted(parts)
    loop = list(make_targets(samples, grabcut(device=None), SEARCH))
    assert [target for number in sorted(results) for target in results[number]] == loop


@needs_ray
@ray_warnings
def test_ray_gives_the_same_results_and_errors(parts, private_ray):
    results = dict(Ray("local", 2).run(SearchWork(grabcut, SEARCH), parts))
    assert results == dict(InProcess().run(SearchWork(grabcut, SEARCH), parts))
    with pytest.raises(UserError, match=r"^the device None cannot be used$"):
        list(Ray("local", 1).run(SearchWork(refused, SEARCH), parts))


@needs_ray
@ray_warnings
def test_a_ray_worker_that_dies_is_one_line(parts, private_ray):
    with pytest.raises(UserError, match=r"^a Ray worker was lost: ") as caught:
        list(Ray("local", 1).run(SearchWork(dying, SEARCH), parts))
    assert "\n" not in str(caught.value)


@needs_ray
def test_a_cluster_that_is_not_there_is_one_line(parts, private_ray):
    with pytest.raises(UserError, match="no Ray cluster at nowhere") as caught:
        list(Ray("nowhere").run(SearchWork(grabcut, SEARCH), parts))
    assert "\n" not in str(caught.value)


def test_ray_that_is_not_installed_is_one_line_with_the_command(parts, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"ray is not installed: pip install 'sam4mllm\[ray\]'"):
        list(Ray("local").run(SearchWork(grabcut, SEARCH), parts))


def test_a_cluster_that_does_not_answer_is_one_line_in_bounded_time(parts, monkeypatch):
    """Ray itself retries for minutes and ends the process; here it is never called, so it need not be installed."""
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no Ray cluster at {address}: .*refused"):
            list(Ray(address).run(SearchWork(grabcut, SEARCH), parts))

    def time_out(address, timeout):
        assert (address, timeout) == (("::1", 6379), parallel.RAY_TIMEOUT)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", time_out)
    with pytest.raises(UserError, match=r"no Ray cluster at \[::1\]:6379: timed out"):
        list(Ray("[::1]:6379").run(SearchWork(grabcut, SEARCH), parts))


def test_torch_has_one_thread_during_a_part_and_its_own_number_again_after(parts):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        seen: list[int] = []
        for _ in InProcess().run(SearchWork(partial(counted, seen), SEARCH), {0: parts[0]}):
            assert torch.get_num_threads() == 3
        assert seen == [1]
    finally:
        torch.set_num_threads(before)


def test_each_worker_builds_one_segmenter_and_devices_are_dealt_out_in_turn(parts, tmp_path):
    list(ProcessPool(4, ("cuda:0", "cuda:1")).run(SearchWork(partial(noted, tmp_path), SEARCH), parts))
    built = [path.name.split() for path in tmp_path.iterdir()]
    assert len({process for process, _ in built}) == len(built) == 4
    assert sorted(device for _, device in built) == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]


def test_there_are_no_more_workers_than_parts(parts, tmp_path):
    list(ProcessPool(5).run(SearchWork(partial(noted, tmp_path), SEARCH), {0: parts[0]}))
    assert len(list(tmp_path.iterdir())) == 1
    assert list(ProcessPool(5).run(SearchWork(partial(noted, tmp_path), SEARCH), {})) == []
    assert list(InProcess().run(SearchWork(refused, SEARCH), {})) == []


@pytest.mark.parametrize(
    ("build", "message"),
    [
        pytest.param(refused, "^the device None cannot be used$", id="a user's mistake"),
        pytest.param(dying, r"^a worker ended with exit code -9 \(-9: killed", id="killed"),
        pytest.param(broken, "^a worker ended with exit code 1 ", id="a programmer's"),
    ],
)
def test_an_error_in_a_worker_is_one_line_and_ends_all_workers(parts, build, message, capfd):
    with pytest.raises(UserError, match=message) as caught:
        list(ProcessPool(2).run(SearchWork(build, SEARCH), parts))
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []


@pytest.fixture
def time_limit():
    """Fails a test that hangs."""

    def fail(*_: object) -> None:
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("length", [0, 1_000_000], ids=["short", "longer than a pipe holds"])
def test_a_worker_that_dies_before_it_reads_its_job_is_one_line(parts, monkeypatch, time_limit, length):
    resource_tracker.ensure_running()  # with the right executable
    ends_at_once = shutil.which("false")
    assert ends_at_once is not None
    monkeypatch.setattr(spawn, "_python_exe", os.fsencode(ends_at_once))
    with pytest.raises(UserError, match=r"^a worker ended with exit code 1 "):
        list(ProcessPool(2).run(SearchWork(partial(counted, [0] * length), SEARCH), parts))
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_while_it_sends_a_result_is_one_line(parts, time_limit):
    with pytest.raises(UserError, match=r"^a worker ended with exit code -9 "):
        list(ProcessPool(2).run(SearchWork(dying_in_a_message, SEARCH), parts))
    assert multiprocessing.active_children() == []


RUN = """
import signal
from pathlib import Path
from sam4mllm.errors import exit_on_user_error
from sam4mllm.runtime.parallel import ProcessPool
from tests.runtime.test_parallel import SEARCH, SearchWork
from tests.searching import endless, pictures
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background of a shell
with exit_on_user_error():
    parts = dict(enumerate(pictures(Path({folder!r}), 4).by_image()))
    list(ProcessPool(2).run(SearchWork(endless, SEARCH), parts))
"""


def test_ctrl_c_ends_a_run_at_once_and_leaves_no_process(tmp_path):
    words, pipe = [sys.executable, "-c", RUN.format(folder=str(tmp_path))], subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as run:
        assert run.stdout is not None
        assert [run.stdout.readline() for _ in range(2)] == ["started\n", "started\n"]
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the run and to its workers
        assert run.communicate(timeout=20) == ("", "")  # both at their ends, so no worker lives that has inherited them
        assert run.returncode == 130


def test_library_warnings_are_not_shown_by_workers_either(parts, capfd):
    assert len(list(ProcessPool(2).run(SearchWork(warning, SEARCH), parts))) == len(parts)
    assert capfd.readouterr().err == ""


def test_a_run_that_is_left_early_leaves_no_process(parts):
    results = ProcessPool(2).run(SearchWork(grabcut, SEARCH), parts)
    next(results)
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert multiprocessing.active_children() == []


def test_an_image_that_cannot_be_read_is_named_from_a_worker_too(samples, parts):
    missing = SampleSet(parts[0].samples, samples.images / "elsewhere")
    with pytest.raises(UserError, match=r"^sample s0: no such file: .*elsewhere"):
        list(ProcessPool(1).run(SearchWork(grabcut, SEARCH), {0: missing}))


@pytest.mark.parametrize(
    ("options", "executor"),
    [
        ({}, InProcess()),
        ({"device": "cuda:1"}, InProcess("cuda:1")),
        ({"workers": 3}, ProcessPool(3)),
        ({"workers": 3, "device": "cuda:0,cuda:1"}, ProcessPool(3, ("cuda:0", "cuda:1"))),
        ({"workers": 2, "ray": "auto", "device": "cuda"}, Ray("auto", 2, "cuda")),
    ],
)
def test_options_choose_the_executor(options, executor):
    assert make_executor(**options) == executor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:0,cuda:1"}, "2 devices need as many workers or more, got 1"),
        ({"device": "cuda:0,cuda:1", "ray": "auto"}, "Ray assigns its GPUs itself"),
        ({"workers": 0}, "1 devices need as many workers or more, got 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        make_executor(**options)
