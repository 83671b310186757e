"""Where parts of a long work are done: in this process, in several on this machine, or on a Ray cluster.

What a part gives is the same whoever does it. The last bits of a product of matrices depend on how many threads share
it, so every engine gives torch one thread: more processors are used by more workers, which is also faster than more
threads for models of any size that a CPU can run. Knows nothing of what is done.

    >>> for number, found in Workers(count=4).run(work, parts): ...
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar, runtime_checkable

from sam4mllm.errors import UserError, hush

ANSWER = 10.0  # seconds that a Ray cluster may take to answer
P_contra = TypeVar("P_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
P = TypeVar("P")
R = TypeVar("R")


@runtime_checkable
class Work(Protocol[P_contra, R_co]):
    """What each worker is told once; it must survive pickling, as parts and what they give must."""

    def begin(self, device: str | None) -> Callable[[P_contra], R_co]:
        """What does a part, with models of its own on a device as torch names it, or on the best where None.

        Raises:
            UserError: for a model or device that cannot be used; what does a part may raise it too.
        """
        ...


@runtime_checkable
class Engine(Protocol):
    """Who does the work."""

    def run(self, work: Work[P, R], parts: Mapping[int, P]) -> Iterator[tuple[int, R]]:
        """What each part gives, by its number, in any order; ended early, it leaves no process behind.

        Raises:
            UserError: as the work does, whoever met it, and for a worker that is lost.
        """
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """This process; the work is begun when the first part is due."""

    device: str | None = None

    def run(self, work: Work[P, R], parts: Mapping[int, P]) -> Iterator[tuple[int, R]]:
        """In the order of the parts."""
        servant = _Servant(work, self.device)
        for number, part in parts.items():
            yield number, servant.done(part)


@dataclass(frozen=True, slots=True)
class Workers:
    """Processes on this machine, each with models of its own.

    Attributes:
        count: how many, 1 or more.
        devices: of the first, second ... worker, from the start again where there are fewer devices than workers.
    """

    count: int
    devices: tuple[str | None, ...] = (None,)

    def __post_init__(self) -> None:
        if self.count < max(1, len(self.devices)):
            raise UserError(f"{len(self.devices)} devices need as many workers or more, got {self.count}")

    def run(self, work: Work[P, R], parts: Mapping[int, P]) -> Iterator[tuple[int, R]]:
        """Each worker is given a part when it has done its last one."""
        context = multiprocessing.get_context("spawn")  # a forked torch hangs in its threads, or has no CUDA
        waiting = iter(parts.items())
        crew: dict[Connection, Any] = {}
        try:
            for number in range(min(self.count, len(parts))):
                ours, theirs = context.Pipe()
                device = self.devices[number % len(self.devices)]
                crew[ours] = context.Process(target=_serve, args=(theirs, work, device), daemon=True)
                crew[ours].start()
                theirs.close()  # else nobody would notice that the worker's end is gone
                ours.send(next(waiting))
            busy = dict(crew)
            while busy:
                ours, done = _next(busy)
                yield done
                more = next(waiting, None)
                ours.send(more)
                if more is None:  # it ends now, which is not to be taken for an accident
                    del busy[ours]
        except BaseException:  # an interrupt too: nobody waits for a part to be finished
            for process in crew.values():
                process.kill()
            raise
        finally:
            for ours, process in crew.items():
                ours.close()
                process.join()


@dataclass(frozen=True, slots=True)
class Ray:
    """A Ray cluster, whose machines have this package and see files by the same paths.

    Attributes:
        address: ``local`` for one on this machine, which ends with the run, ``auto``, or ``HOST:PORT``.
        count: how many workers, 1 or more.
        device: as torch names it; one that begins with ``cuda`` asks Ray for a GPU of its own for each worker.
    """

    address: str
    count: int = 1
    device: str | None = None

    def run(self, work: Work[P, R], parts: Mapping[int, P]) -> Iterator[tuple[int, R]]:
        """Each worker is given a part when it has done its last one.

        Raises:
            UserError: where Ray is not installed or the cluster is not there, too.
        """
        with _cluster(self) as ray:
            gpus = 1 if (self.device or "").startswith("cuda") else 0
            actor = ray.remote(num_cpus=1, num_gpus=gpus)(_Servant)
            crew = [actor.remote(work, self.device) for _ in range(min(self.count, len(parts)))]
            waiting = iter(parts.items())
            busy = {one.told.remote(*next(waiting)): one for one in crew}
            while busy:
                [ready], _ = ray.wait(list(busy))
                servant = busy.pop(ready)
                try:
                    done = ray.get(ready)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    raise UserError(f"a Ray worker was lost: {str(error).splitlines()[0]}") from None
                if isinstance(done, UserError):
                    raise done
                if (more := next(waiting, None)) is not None:
                    busy[servant.told.remote(*more)] = servant
                yield done


def engine(workers: int = 1, device: str | None = None, ray: str | None = None) -> Here | Workers | Ray:
    """Who does the work, from words on a command line.

    Args:
        workers: how many, 1 or more.
        device: as torch names it, or several with commas between them, dealt out to the workers of this machine.
        ray: the address of a Ray cluster (see `Ray`); none where None.

    Raises:
        UserError: for more devices than workers, or several on a cluster.
    """
    devices = tuple(device.split(",")) if device else (None,)
    if ray is None:
        return Here(device) if workers == 1 and len(devices) == 1 else Workers(workers, devices)
    if len(devices) > 1:
        raise UserError("Ray deals its GPUs out itself: give --device cuda, and as many workers as there are GPUs")
    return Ray(ray, workers, device)


class _Servant:
    """A worker, wherever it is."""

    def __init__(self, work: Work[Any, Any], device: str | None) -> None:
        self._work, self._device = work, device
        self._do: Callable[[Any], Any] | None = None

    def done(self, part: Any) -> Any:
        self._do = self._do or self._work.begin(self._device)
        with _one_thread():
            return self._do(part)

    def told(self, number: int, part: Any) -> tuple[int, Any] | UserError:
        """A user's mistake is handed over as a value: Ray would wrap it in its own."""
        try:
            return number, self.done(part)
        except UserError as error:
            return error


def _serve(connection: Connection, work: Work[Any, Any], device: str | None) -> None:
    """A worker's life: it ends when there is no more to do, or whoever gave it work is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interrupt is the parent's to handle
    hush()
    servant = _Servant(work, device)
    try:
        for number, part in iter(connection.recv, None):
            connection.send(servant.told(number, part))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _next(busy: Mapping[Connection, Any]) -> tuple[Connection, tuple[int, Any]]:
    """The next result, and the connection of the worker that now has nothing to do."""
    [ours, *_] = wait(list(busy))
    assert isinstance(ours, Connection)
    try:
        done = ours.recv()
    except (EOFError, ConnectionResetError):
        busy[ours].join()
        raise UserError(
            f"a worker ended with exit code {busy[ours].exitcode} (-9: killed, often for want of memory); what is done "
            f"is kept, so run it again, with fewer workers perhaps"
        ) from None
    if isinstance(done, UserError):
        raise done
    return ours, done


@contextmanager
def _one_thread() -> Iterator[None]:
    """The block with one thread of torch's; nothing where no model has loaded it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_answers(address: str) -> None:
    """Make sure that somebody listens at HOST:PORT: Ray itself takes minutes, and then ends the process.

    Raises:
        UserError: where nobody does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():  # local, auto, or a word that Ray refuses at once
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster at {address}: {error}") from error


@contextmanager
def _cluster(engine: Ray) -> Iterator[Any]:
    """Ray, connected."""
    try:
        import ray
    except ImportError:
        raise UserError("the package ray is not installed: pip install 'sam4mllm[ray]'") from None
    _check_answers(engine.address)
    local = {"num_cpus": engine.count, "include_dashboard": False} if engine.address == "local" else {}
    try:
        ray.init(engine.address, log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster at {engine.address}: {str(error).splitlines()[0]}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
