"""Runs the parts of a long job in this process, in several processes, or on a Ray cluster.

A part's result does not depend on where it is computed. The last bits of a matrix product depend on the number of
threads, so torch gets one thread in every worker and in this process too. To use more cores, use more workers: for
models that run on a CPU this is also faster than more threads.

Each worker builds its own models once, on its own device, when it gets its first part.

    >>> for number, result in ProcessPool(count=4).run(work, parts): ...
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from sam4mllm.errors import UserError, silence_library_warnings

RAY_TIMEOUT = 10.0
"""Seconds that a Ray cluster has to accept a connection."""
P_contra = TypeVar("P_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
P = TypeVar("P")
R = TypeVar("R")


@runtime_checkable
class Work(Protocol[P_contra, R_co]):
    """A job that can be split into parts. The job, its parts and their results must be picklable."""

    def begin(self, device: str | None) -> Callable[[P_contra], R_co]:
        """Builds the models on a device, as torch names it (None: the best one), and returns the function for a part.

        Raises:
            UserError: if a model or the device cannot be used. The returned function may raise it too.
        """
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs a job's parts."""

    def run(self, work: Work[P, R], parts: Mapping[int, P]) -> Iterator[tuple[int, R]]:
        """Yields the number and the result of each part, in any order.

        No process is left behind, even if the iteration ends early or is interrupted.

        Raises:
            UserError: if the work raises it in any process, or if a worker dies.
        """
        ...


@dataclass(frozen=True, slots=True)
class InProcess:
    """Runs the parts one after another in this process.

    Attributes:
        device: as torch names it; the best one if None.
    """

    device: str | None = None

    def run(self, work: Work[P, R], parts: Mapping[int, P]) -> Iterator[tuple[int, R]]:
        """Yields the results in the order of the parts."""
        worker = _Worker(work, self.device)
        for number, part in parts.items():
            yield worker.compute(number, part)


@dataclass(frozen=True, slots=True)
class ProcessPool:
    """Runs the parts in processes on this machine. A worker gets its next part when it has finished one.

    `ProcessPoolExecutor` is not used. It waits forever if a worker is killed while sending a result that is larger than
    a pipe's buffer (64 KiB), and it leaves its workers behind if this process is killed. Here each worker has its own
    pipe, which breaks as soon as either end dies.

    Attributes:
        count: number of workers, at least 1 and at least the number of devices. No more are started than there are
            parts.
        devices: assigned to the workers in turn, starting again when all are used.

    Raises:
        UserError: if there are more devices than workers.
    """

    count: int
    devices: tuple[str | None, ...] = (None,)

    def __post_init__(self) -> None:
        if self.count < max(1, len(self.devices)):
            raise UserError(f"{len(self.devices)} devices need as many workers or more, got {self.count}")

    def run(self, work: Work[P, R], parts: Mapping[int, P]) -> Iterator[tuple[int, R]]:
        """Yields each result as soon as a worker has it."""
        context = multiprocessing.get_context("spawn")  # neither CUDA nor torch's threads survive a fork
        waiting = iter(parts.items())
        workers: dict[Connection, SpawnProcess] = {}
        try:
            for device in islice(cycle(self.devices), min(self.count, len(parts))):
                connection, their_end = context.Pipe()
                process = context.Process(target=_serve, args=(their_end, device), daemon=True)
                process.start()
                workers[connection] = process
                their_end.close()  # the worker has the only copy, so the pipe breaks when it dies
            # the job is not in `args` above, where a long one would block `start` for ever
            for connection, process in workers.items():
                with _death_as_user_error(process):
                    connection.send(work)
                    connection.send(next(waiting))
            busy = set(workers)
            while busy:
                connection = cast(Connection, wait(busy)[0])
                with _death_as_user_error(workers[connection]):
                    result = connection.recv()
                if isinstance(result, UserError):
                    raise result
                yield result
                if (part := next(waiting, None)) is None:
                    busy.remove(connection)
                else:
                    with _death_as_user_error(workers[connection]):
                        connection.send(part)
        except BaseException:  # after Ctrl-C or an early end, do not wait for the parts in progress
            for process in workers.values():
                process.kill()
            raise
        finally:
            for connection, process in workers.items():
                connection.close()
                process.join()


@dataclass(frozen=True, slots=True)
class Ray:
    """Runs the parts on a Ray cluster. Its machines need this package, and the images under the same paths.

    Ray assigns the GPUs: each worker reserves one if the device is ``cuda``.

    Attributes:
        address: ``auto``, ``HOST:PORT``, or ``local`` for a cluster on this machine that ends with the run.
        count: number of workers, at least 1. No more are started than there are parts.
        device: of each worker, as torch names it; the best one if None.
    """

    address: str
    count: int = 1
    device: str | None = None

    def run(self, work: Work[P, R], parts: Mapping[int, P]) -> Iterator[tuple[int, R]]:
        """Yields each result as soon as a worker has it.

        Raises:
            UserError: as `Executor.run` does, and if Ray is not installed or the cluster does not answer.
        """
        with _connect_ray(self.address, self.count) as ray:
            from ray.util import ActorPool

            gpus = 1 if (self.device or "").startswith("cuda") else 0
            actor = ray.remote(num_cpus=1, num_gpus=gpus)(_Worker)
            pool = ActorPool([actor.remote(work, self.device) for _ in range(min(self.count, len(parts)))])
            try:
                yield from pool.map_unordered(lambda worker, part: worker.compute.remote(*part), parts.items())
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                raise UserError(f"a Ray worker was lost: {str(error).splitlines()[0]}") from None


def make_executor(workers: int = 1, device: str | None = None, ray: str | None = None) -> InProcess | ProcessPool | Ray:
    """Chooses the executor from the command line's options.

    Args:
        workers: number of workers, at least 1.
        device: as torch names it, or several, separated by commas, for the workers of this machine.
        ray: address of a Ray cluster, see `Ray`.

    Raises:
        UserError: if there are more devices than workers, or several devices for a Ray cluster.
    """
    devices = tuple(device.split(",")) if device else (None,)
    if ray is None:
        return InProcess(device) if workers == 1 and len(devices) == 1 else ProcessPool(workers, devices)
    if len(devices) > 1:
        raise UserError("Ray assigns its GPUs itself: pass --device cuda, and as many --workers as GPUs")
    return Ray(ray, workers, device)


class _Worker:
    """Computes parts with models that are built when the first part arrives, and then kept."""

    def __init__(self, work: Work[Any, Any], device: str | None) -> None:
        self._work, self._device = work, device
        self._compute: Callable[[Any], Any] | None = None

    def compute(self, number: int, part: Any) -> tuple[int, Any]:
        self._compute = self._compute or self._work.begin(self._device)
        with _one_thread():
            return number, self._compute(part)


def _serve(connection: Connection, device: str | None) -> None:
    """Receives a job and then its parts, and sends their results, until the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    silence_library_warnings()
    try:
        worker = _Worker(connection.recv(), device)
        while True:
            number, part = connection.recv()
            try:
                result: Any = worker.compute(number, part)
            except UserError as error:
                result = error
            connection.send(result)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


@contextmanager
def _death_as_user_error(process: SpawnProcess) -> Iterator[None]:
    """Turns a broken pipe in the block into a `UserError` with the worker's exit code."""
    try:
        yield
    except (EOFError, OSError):  # at the end of a message, or within one
        process.join()
        raise UserError(
            f"a worker ended with exit code {process.exitcode} (-9: killed, often because memory ran out); finished "
            "parts are kept: run the command again, with fewer workers if memory is short"
        ) from None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Gives torch one thread, if a model has imported it, and restores the number afterwards."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


@contextmanager
def _connect_ray(address: str, count: int) -> Iterator[Any]:
    """Connects to a Ray cluster for the block, or starts one on this machine if the address is ``local``.

    Raises:
        UserError: if Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError:
        raise UserError("the package ray is not installed: pip install 'sam4mllm[ray]'") from None
    _check_listening(address)
    local = {"num_cpus": count, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_listening(address: str) -> None:
    """Checks that HOST:PORT accepts connections. Ray itself retries for minutes, and then ends the process.

    Raises:
        UserError: if it accepts none within `RAY_TIMEOUT`.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():  # local, auto, or a word that Ray refuses at once
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=RAY_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster at {address}: {error}") from error
