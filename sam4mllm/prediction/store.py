"""Append-only prediction files: resumable, shardable, and sorted in the order of the samples at the end.

A run of one shard writes its own file next to the file of all samples. A run without a shard takes over its lines:

    val.jsonl            all predictions; in the samples' order when complete
    val-2-of-4.jsonl     those of the second of four shards, until they are merged
    val.settings.json    the settings of the pipeline; two pipelines never share a file
    val.timings.jsonl    {"id": "refcoco-unc-5342-15215", "seconds": {"first": 0.31}}, different in every run

A shard's file has its own settings and timings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.prediction.record import Prediction, read_unfinished
from sam4mllm.runtime.files import os_errors_as_user_errors, release_lock, take_lock, write_text
from sam4mllm.runtime.provenance import check_same

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
            raise UserError(f"there is no shard {self.number} of {self.count}: shards are counted from 1")

    @classmethod
    def of(cls, text: str) -> Shard:
        """Parse ``2/4``.

        Raises:
            UserError: for anything else.
        """
        match = _SHARD.fullmatch(text)
        if not match:
            raise UserError(f"a shard must be NUMBER/COUNT, such as 2/4, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def owns(self, part: int) -> bool:
        """Whether a part, counted from 0, belongs to this shard."""
        return part % self.count == self.number - 1

    def file(self, out: Path) -> Path:
        """The shard's file of predictions, next to the file of all samples."""
        return out.with_name(f"{out.stem}-{self.number}-of-{self.count}{out.suffix}") if self.count > 1 else out


def shard_files(out: Path) -> list[Path]:
    """The shards' files next to a file of predictions."""
    pattern = re.compile(re.escape(out.stem) + r"-[1-9]\d*-of-[1-9]\d*" + re.escape(out.suffix))
    return sorted(path for path in out.parent.glob("*-of-*") if pattern.fullmatch(path.name))


class PredictionFile:
    """A file that is being appended to; see `open_predictions`.

    Attributes:
        existing: the predictions in the file, by id.
    """

    def __init__(self, existing: dict[str, Prediction], lines: LockedLines, timings: LockedLines) -> None:
        self.existing, self._lines, self._timings = existing, lines, timings

    def add(self, prediction: Prediction, seconds: Mapping[str, float]) -> None:
        """Append a prediction, with its seconds per stage."""
        self._lines.append(prediction.to_line())
        self._timings.append(json.dumps({"id": prediction.id, "seconds": dict(seconds)}))
        self.existing[prediction.id] = prediction


@contextmanager
def open_predictions(
    samples: SampleSet,
    out: Path,
    shard: Shard,
    settings: Mapping[str, Any] | None = None,
    *,
    retry_failed: bool = False,
) -> Iterator[PredictionFile]:
    """A context with exclusive access to a file of predictions. On success it sorts them in the order of the samples.

    Args:
        samples: the samples that are predicted.
        out: the file of all samples; its folder is created if necessary.
        shard: the shard that is written.
        settings: the pipeline's settings; compared with those of the existing predictions, of this file and all shards.
        retry_failed: whether to remove failed predictions first.

    Raises:
        UserError: if a file holds something else, is being written, or cannot be written. Lines that were written
            remain.
    """
    shard_file = shard.file(out)
    others = shard_files(out) if shard_file == out else []
    if settings is not None:
        settings = json.loads(json.dumps(settings))
        _check_settings(settings, {out, shard_file, *shard_files(out)})
    if retry_failed:
        for file in (shard_file, *others):
            _drop_failed(file, samples)
    with ExitStack() as stack:
        lines = {file: stack.enter_context(LockedLines(file)) for file in [shard_file, *others]}
        stored = {file: _read_stored(file, samples) for file in lines}
        for file, (_, size) in stored.items():
            lines[file].keep(size)
        predictions = chain.from_iterable(reversed([file_predictions for file_predictions, _ in stored.values()]))
        # sorted, so that an answer replaces a failure with the same id
        existing = {prediction.id: prediction for prediction in sorted(predictions, key=_has_answer)}
        if settings is not None:
            write_text(_settings_file(shard_file), json.dumps(settings, indent=2) + "\n")
        timings = stack.enter_context(LockedLines(_timings_file(shard_file)))
        timings.keep(_complete_size(_timings_file(shard_file)) if existing else 0)
        yield PredictionFile(existing, lines[shard_file], timings)
        for open_lines in (*lines.values(), timings):
            open_lines.close()  # Windows cannot replace or remove open files; the locks remain
        _sort_lines(shard_file, [existing[sample.id] for sample in samples if sample.id in existing])
        _merge_timings([*reversed(others), shard_file])
        for file in others:
            for obsolete in (file, _timings_file(file), _lock_of(_timings_file(file)), _settings_file(file)):
                obsolete.unlink(missing_ok=True)


def _check_settings(settings: Mapping[str, Any], files: Iterable[Path]) -> None:
    """Check that the existing predictions were made with these settings."""
    for file in sorted(files):
        if file.exists() and file.stat().st_size > 0 and _settings_file(file).exists():
            remedy = "use the values it was started with, or another file"
            check_same(read_settings(file), settings, str(file), remedy)


def _read_stored(file: Path, samples: SampleSet) -> tuple[list[Prediction], int]:
    """The predictions of a stopped run, and the length in bytes of its complete lines."""
    predictions, size = read_unfinished(file)
    sample_ids, stored_ids = {sample.id for sample in samples}, set[str]()
    for prediction in predictions:
        if prediction.id not in sample_ids:
            raise UserError(f"{file} belongs to other samples: {prediction.id} is not among these {len(sample_ids)}")
        if prediction.id in stored_ids:
            raise UserError(f"{file} contains {prediction.id} twice: remove one of the lines, or use another file")
        stored_ids.add(prediction.id)
    return predictions, size


def _sort_lines(file: Path, predictions: Sequence[Prediction]) -> None:
    """Replace the file atomically with the same lines in order, so that a killed run loses nothing."""
    text = "".join(f"{prediction.to_line()}\n" for prediction in predictions)
    if file.read_bytes() != text.encode():
        write_text(file, text)


def _has_answer(prediction: Prediction) -> bool:
    """Whether the sample has an answer: it may have failed in another run."""
    return prediction.error is None


def _drop_failed(file: Path, samples: SampleSet) -> None:
    """Remove failed predictions atomically, so that a run that is killed afterwards can be resumed."""
    with LockedLines(file) as lines:
        predictions, _ = _read_stored(file, samples)
        lines.close()  # Windows cannot replace open files
        if not all(map(_has_answer, predictions)):
            write_text(file, "".join(f"{prediction.to_line()}\n" for prediction in filter(_has_answer, predictions)))


def _merge_timings(files: Sequence[Path]) -> None:
    """Merge the timings of all files into the last file's, one line per id. Later lines replace earlier ones."""
    timings_files = [_timings_file(file) for file in files if _timings_file(file).exists()]
    lines = [
        line
        for timings_file in timings_files
        for line in timings_file.read_bytes()[: _complete_size(timings_file)].decode(errors="replace").splitlines()
    ]
    by_id = {line.partition(', "seconds"')[0]: line for line in lines}
    write_text(_timings_file(files[-1]), "".join(f"{line}\n" for line in by_id.values()))


def read_settings(file: Path) -> dict[str, Any]:
    """The settings next to a file of predictions; empty if there are none.

    Raises:
        UserError: if they are not a JSON object.
    """
    if not _settings_file(file).exists():
        return {}
    try:
        return dict(json.loads(_settings_file(file).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{_settings_file(file)} is not a JSON object of settings: {error}") from error


def _settings_file(file: Path) -> Path:
    return prediction_paths(file)[1]


def _timings_file(file: Path) -> Path:
    return prediction_paths(file)[2]


def _complete_size(path: Path) -> int:
    """The length in bytes of a file's complete lines."""
    return path.read_bytes().rfind(b"\n") + 1


COMPANION_SUFFIXES = (".settings.json", ".timings.jsonl")
"""The suffixes of the files that `predict` writes next to a file of predictions."""


def prediction_paths(file: Path) -> list[Path]:
    """A file of predictions, and the paths of its settings and timings."""
    return [file, *(file.parent / f"{file.stem}{ending}" for ending in COMPANION_SUFFIXES)]


def _lock_of(path: Path) -> Path:
    """The lock of a file, the same for all links to it."""
    file = path.resolve()
    return file.with_name(f".{file.name}.lock")


class LockedLines:
    """A file that is appended to by complete lines, and locked until it is closed.

    A line that cannot be written completely is removed.

    Args:
        path: the file; created with its folder if necessary. Its content is kept.

    Raises:
        UserError: if the system refuses access, here or when appending, or if another run is writing the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with os_errors_as_user_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = take_lock(_lock_of(path), f"cannot write {path}: another run is writing it")
        try:
            with os_errors_as_user_errors(path):
                self._file = path.open("ab", buffering=0)
                self._size = path.stat().st_size
        except BaseException:
            release_lock(self._lock)
            raise

    def keep(self, size: int) -> None:
        """Truncate the file to this size in bytes."""
        with os_errors_as_user_errors(self._path):
            self._file.truncate(size)
        self._size = size

    def append(self, line: str) -> None:
        data = f"{line}\n".encode()
        remaining = memoryview(data)
        with os_errors_as_user_errors(self._path):
            try:
                while remaining:
                    remaining = remaining[self._file.write(remaining) :]
            except OSError:
                self._file.truncate(self._size)
                raise
        self._size += len(data)

    def close(self) -> None:
        """Close the file. It stays locked until the context ends."""
        self._file.close()

    def __enter__(self) -> LockedLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        finally:
            release_lock(self._lock)
