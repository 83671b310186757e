"""Files of predictions that grow in any order, survive a kill, and end in the samples' order. Knows no model.

A run of one shard writes a file of its own beside the whole's; a run without a shard takes over what they hold:

    val.jsonl            all predictions, in the samples' order once all are there
    val-2-of-4.jsonl     those of the second of four shards, until they are joined
    val.settings.json    what made them; two models never share a file
    val.timings.jsonl    {"id": "refcoco-unc-5342-15215", "seconds": {"first": 0.31}}, of no two runs alike

A shard's file has its own settings and timings beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.prediction.record import Prediction, read_whole
from sam4mllm.runtime.files import one_line, release_lock, take_lock, write_text

_SHARD = re.compile(r"([1-9]\d{0,4})/([1-9]\d{0,4})")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several runs that share the samples.

    Raises:
        UserError: unless 1 <= number <= count.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise UserError(f"there is no shard {self.number} of {self.count}: they are counted from 1")

    @classmethod
    def of(cls, text: str) -> Shard:
        """From ``2/4``.

        Raises:
            UserError: for anything else.
        """
        found = _SHARD.fullmatch(text)
        if not found:
            raise UserError(f"a shard is written NUMBER/COUNT, as 2/4, got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def owns(self, part: int) -> bool:
        """Whether a part, counted from 0, is this shard's."""
        return part % self.count == self.number - 1

    def file(self, out: Path) -> Path:
        """Where its predictions are, beside those of the whole."""
        return out.with_name(f"{out.stem}-{self.number}-of-{self.count}{out.suffix}") if self.count > 1 else out


def shard_files(out: Path) -> list[Path]:
    """The files of shards that lie beside a file."""
    shape = re.compile(re.escape(out.stem) + r"-[1-9]\d*-of-[1-9]\d*" + re.escape(out.suffix))
    return sorted(path for path in out.parent.glob("*-of-*") if shape.fullmatch(path.name))


class Growing:
    """A file that is being added to; see `growing`.

    Attributes:
        there: the predictions that are there, by id.
    """

    def __init__(self, there: dict[str, Prediction], lines: Lines, timings: Lines) -> None:
        self.there, self._lines, self._timings = there, lines, timings

    def add(self, prediction: Prediction, seconds: Mapping[str, float]) -> None:
        """Write one more, with its seconds by stage."""
        self._lines.append(prediction.to_line())
        self._timings.append(json.dumps({"id": prediction.id, "seconds": dict(seconds)}))
        self.there[prediction.id] = prediction


@contextmanager
def growing(
    samples: SampleSet,
    out: Path,
    shard: Shard,
    settings: Mapping[str, Any] | None = None,
    *,
    retry_failed: bool = False,
) -> Iterator[Growing]:
    """The block with a file of predictions to itself; when it ends well, they are put into the samples' order.

    Args:
        samples: whose predictions they are.
        out: the whole's file; its folder is made if need be.
        shard: which part of it is written.
        settings: what makes them; compared with what made those that are there, of the whole and of every shard.
        retry_failed: whether those that failed are taken out first.

    Raises:
        UserError: for a file that holds something else, is being written, or cannot be; lines that were written stay.
    """
    own = shard.file(out)
    others = shard_files(out) if own == out else []
    made = None if settings is None else json.dumps(settings, indent=2) + "\n"
    if made is not None:
        _check_made(made, {out, own, *shard_files(out)})
    if retry_failed:
        for file in (own, *others):
            _drop_failed(file, samples)
    with ExitStack() as stack:
        lines = {file: stack.enter_context(Lines(file)) for file in [own, *others]}
        found = {file: _kept(file, samples) for file in lines}
        for file, (_, size) in found.items():
            lines[file].keep(size)
        every = [one for some, _ in reversed(found.values()) for one in some]
        there = {one.id: one for one in sorted(every, key=_answered)}  # of several of an id the last
        if made is not None:
            write_text(_made(own), made)
        timings = stack.enter_context(Lines(_times(own)))
        timings.keep(_whole(_times(own)) if there else 0)
        yield Growing(there, lines[own], timings)
        for opened in (*lines.values(), timings):
            opened.close()  # Windows replaces and removes no open file; the locks stay
        _put_in_order(own, [there[sample.id] for sample in samples if sample.id in there])
        _put_timings([*reversed(others), own])
        for file in others:
            for each in (file, _times(file), _lock_of(_times(file)), _made(file)):
                each.unlink(missing_ok=True)


def _check_made(made: str, files: Iterable[Path]) -> None:
    """See that the predictions that are there were made as these will be."""
    for file in sorted(files):
        begun = file.exists() and file.stat().st_size > 0
        if begun and _made(file).exists() and _made(file).read_text(encoding="utf-8") != made:
            raise UserError(
                f"the predictions were begun with other settings, see {_made(file)}: give those, or another file"
            )


def _kept(file: Path, samples: SampleSet) -> tuple[list[Prediction], int]:
    """The predictions that a stopped run left, and the bytes of their whole lines."""
    found, size = read_whole(file)
    known, seen = {sample.id for sample in samples}, set[str]()
    for one in found:
        if one.id not in known:
            raise UserError(f"{file} is of another set: it holds {one.id}, which is none of these {len(known)} samples")
        if one.id in seen:
            raise UserError(f"{file} holds {one.id} twice: remove one of the lines, or give another file")
        seen.add(one.id)
    return found, size


def _put_in_order(file: Path, predictions: Sequence[Prediction]) -> None:
    """Whole or not at all; the same lines, so nothing is lost where a kill comes between."""
    text = "".join(f"{one.to_line()}\n" for one in predictions)
    if file.read_bytes() != text.encode():
        write_text(file, text)


def _answered(prediction: Prediction) -> bool:
    """Whether a sample did not fail: it may have failed in one run and not in another."""
    return prediction.error is None


def _drop_failed(file: Path, samples: SampleSet) -> None:
    """Whole or not at all, so that a run that is then killed is gone on with as any other."""
    with Lines(file) as lines:
        found, _ = _kept(file, samples)
        lines.close()  # Windows replaces no open file
        if any(one.error is not None for one in found):
            write_text(file, "".join(f"{one.to_line()}\n" for one in found if one.error is None))


def _put_timings(files: Sequence[Path]) -> None:
    """Make the last file's timings those of all, a line for each id: the last there is, as of what was asked again."""
    there = [_times(file) for file in files if _times(file).exists()]
    lines = [line for each in there for line in each.read_bytes()[: _whole(each)].decode(errors="replace").splitlines()]
    by_id = {line.partition(', "seconds"')[0]: line for line in lines}
    write_text(_times(files[-1]), "".join(f"{line}\n" for line in by_id.values()))


def settings_beside(file: Path) -> dict[str, Any]:
    """What made the predictions, as it was noted; nothing where it was not.

    Raises:
        UserError: for a note that is no JSON object.
    """
    if not _made(file).exists():
        return {}
    try:
        return dict(json.loads(_made(file).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{_made(file)} does not say what made the predictions: {error}") from error


def _made(file: Path) -> Path:
    return with_beside(file)[1]


def _times(file: Path) -> Path:
    return with_beside(file)[2]


def _whole(path: Path) -> int:
    """The bytes of a file's whole lines."""
    return path.read_bytes().rfind(b"\n") + 1


BESIDE = (".settings.json", ".timings.jsonl")
"""The endings, in place of its own, of what `predict` leaves beside a file of predictions."""


def with_beside(file: Path) -> list[Path]:
    """A file of predictions, and what lies beside it, if that is there: what made them, and the seconds they took."""
    return [file, *(file.parent / f"{file.stem}{ending}" for ending in BESIDE)]


def _lock_of(path: Path) -> Path:
    """The lock of a file, whichever link it is reached by."""
    file = path.resolve()
    return file.with_name(f".{file.name}.lock")


class Lines:
    """A file that grows by whole lines, and is nobody else's until it is closed; a line that cannot be written whole is
    taken back.

    Args:
        path: its folder, and an empty file, are made if need be; what is there stays.

    Raises:
        UserError: if the system refuses, here or at a line, or if another run is writing the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with one_line(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = take_lock(_lock_of(path), f"cannot write {path}: another run is writing it")
        try:
            with one_line(path):
                self._file = path.open("ab", buffering=0)
                self._size = path.stat().st_size
        except BaseException:
            release_lock(self._lock)
            raise

    def keep(self, size: int) -> None:
        """Drop what comes after so many bytes."""
        with one_line(self._path):
            self._file.truncate(size)
        self._size = size

    def append(self, line: str) -> None:
        data = f"{line}\n".encode()
        rest = memoryview(data)
        with one_line(self._path):
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._file.truncate(self._size)
                raise
        self._size += len(data)

    def close(self) -> None:
        """Close the file; it stays locked until the block ends."""
        self._file.close()

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        finally:
            release_lock(self._lock)
