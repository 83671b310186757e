"""Three engines, one result: what they find, what they say when something fails, and what they leave behind."""

import importlib.util
import multiprocessing
import socket
import sys
from functools import partial
from types import ModuleType

import pytest
import torch

from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.runtime import parallel
from sam4mllm.runtime.parallel import Engine, Here, Ray, Work, Workers, engine
from sam4mllm.targets.run import Searching
from sam4mllm.targets.search import Search, make_targets
from tests.searching import broken, counted, dying, grabcut, noted, pictures, refused, warning

SEARCH = Search(candidates=4, keep=2, least=0.0, fewer=1)
needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="the package ray is not installed")


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> SampleSet:
    return pictures(tmp_path_factory.mktemp("pictures"), 7)


@pytest.fixture(scope="module")
def parts(samples) -> dict[int, SampleSet]:
    return {number: SampleSet(samples.samples[number : number + 1], samples.images) for number in range(7)}


@pytest.fixture
def ray_alone(monkeypatch):
    """A cluster of this test's own, that keeps no secret and tells nobody."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.mark.parametrize("one", [Here(), Workers(1), Workers(3)], ids=["here", "1 worker", "3 workers"])
def test_every_engine_finds_what_a_plain_loop_finds(samples, parts, one):
    assert isinstance(one, Engine)
    assert isinstance(Searching(grabcut, SEARCH), Work)
    found = dict(one.run(Searching(grabcut, SEARCH), parts))
    assert sorted(found) == sorted(parts)
    loop = list(make_targets(samples, grabcut(device=None), SEARCH))
    assert [target for number in sorted(found) for target in found[number]] == loop


@needs_ray
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_ray_finds_the_same_and_says_the_same(samples, parts, ray_alone):
    found = dict(Ray("local", 2).run(Searching(grabcut, SEARCH), parts))
    assert found == dict(Here().run(Searching(grabcut, SEARCH), parts))
    with pytest.raises(UserError, match=r"^the device None cannot be used$"):
        list(Ray("local", 1).run(Searching(refused, SEARCH), parts))


@needs_ray
def test_a_cluster_that_is_not_there_is_one_line(parts, ray_alone):
    with pytest.raises(UserError, match="no Ray cluster at nowhere") as caught:
        list(Ray("nowhere").run(Searching(grabcut, SEARCH), parts))
    assert "\n" not in str(caught.value)


def test_ray_that_is_not_installed_is_one_line_with_the_command(parts, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"ray is not installed: pip install 'sam4mllm\[ray\]'"):
        list(Ray("local").run(Searching(grabcut, SEARCH), parts))


def test_a_cluster_that_does_not_answer_is_one_line_in_bounded_time(parts, monkeypatch):
    """Ray itself tries for minutes and ends the process; it is not asked, so it need not be installed."""
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no Ray cluster at {address}: .*refused"):
            list(Ray(address).run(Searching(grabcut, SEARCH), parts))

    def silent(address, timeout):
        assert (address, timeout) == (("::1", 6379), parallel.ANSWER)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(UserError, match=r"no Ray cluster at \[::1\]:6379: timed out"):
        list(Ray("[::1]:6379").run(Searching(grabcut, SEARCH), parts))


def test_torch_has_one_thread_while_targets_are_searched_and_its_own_again_after(parts):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        seen: list[int] = []
        for _ in Here().run(Searching(partial(counted, seen), SEARCH), {0: parts[0]}):
            assert torch.get_num_threads() == 3
        assert seen == [1]
    finally:
        torch.set_num_threads(before)


def test_each_worker_builds_one_segmenter_on_the_device_that_is_its_turn(parts, tmp_path):
    list(Workers(4, ("cuda:0", "cuda:1")).run(Searching(partial(noted, tmp_path), SEARCH), parts))
    found = [path.name.split() for path in tmp_path.iterdir()]
    assert len({process for process, _ in found}) == len(found) == 4
    assert sorted(device for _, device in found) == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]


def test_there_are_no_more_workers_than_parts(parts, tmp_path):
    list(Workers(5).run(Searching(partial(noted, tmp_path), SEARCH), {0: parts[0]}))
    assert len(list(tmp_path.iterdir())) == 1
    assert list(Workers(5).run(Searching(partial(noted, tmp_path), SEARCH), {})) == []
    assert list(Here().run(Searching(refused, SEARCH), {})) == []


@pytest.mark.parametrize(
    ("build", "says"),
    [
        pytest.param(refused, "^the device None cannot be used$", id="a user's mistake"),
        pytest.param(dying, r"^a worker ended with exit code -9 \(-9: killed", id="killed"),
        pytest.param(broken, "^a worker ended with exit code 1 ", id="a programmer's"),
    ],
)
def test_what_befalls_a_worker_is_one_line_and_ends_them_all(parts, build, says, capfd):
    with pytest.raises(UserError, match=says) as caught:
        list(Workers(2).run(Searching(build, SEARCH), parts))
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []


def test_what_libraries_say_to_their_authors_is_not_shown_by_workers_either(parts, capfd):
    assert len(list(Workers(2).run(Searching(warning, SEARCH), parts))) == len(parts)
    assert capfd.readouterr().err == ""


def test_a_run_that_is_left_early_leaves_no_process(parts):
    running = Workers(2).run(Searching(grabcut, SEARCH), parts)
    next(running)
    assert len(multiprocessing.active_children()) == 2
    running.close()
    assert multiprocessing.active_children() == []


def test_a_picture_that_cannot_be_used_is_named_from_a_worker_too(samples, parts):
    gone = SampleSet(parts[0].samples, samples.images / "elsewhere")
    with pytest.raises(UserError, match=r"^sample s0: no such file: .*elsewhere"):
        list(Workers(1).run(Searching(grabcut, SEARCH), {0: gone}))


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ({}, Here()),
        ({"device": "cuda:1"}, Here("cuda:1")),
        ({"workers": 3}, Workers(3)),
        ({"workers": 3, "device": "cuda:0,cuda:1"}, Workers(3, ("cuda:0", "cuda:1"))),
        ({"workers": 2, "ray": "auto", "device": "cuda"}, Ray("auto", 2, "cuda")),
    ],
)
def test_words_become_an_engine(words, made):
    assert engine(**words) == made


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"device": "cuda:0,cuda:1"}, "2 devices need as many workers or more, got 1"),
        ({"device": "cuda:0,cuda:1", "ray": "auto"}, "Ray deals its GPUs out itself"),
        ({"workers": 0}, "1 devices need as many workers or more, got 0"),
    ],
)
def test_words_that_make_no_engine_are_refused(words, says):
    with pytest.raises(UserError, match=says):
        engine(**words)
