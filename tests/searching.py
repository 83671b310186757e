"""A small dataset to search, and segmenters that worker processes can build by name."""

from __future__ import annotations

import os
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Image
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import write_png
from sam4mllm.segmenters import Scene, Segmenter
from sam4mllm.segmenters.box import fill
from sam4mllm.segmenters.grabcut import GrabCutSegmenter


def pictures(folder: Path, count: int) -> SampleSet:
    """Small images of noise with two masks each, and a sample without masks."""
    samples = []
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        x, y = rng.integers(0, 15, 2).tolist()
        masks = [fill(Box(x, y, x + 18, y + 12), 30, 40), fill(Box(5, 3, 11, 25), 30, 40)]
        pixels[masks[0]] //= 2
        write_png(folder / f"{number}.png", pixels)
        samples.append(Sample(f"s{number}", f"{number}.png", 40, 30, "it", tuple(map(Rle.from_mask, masks))))
    return SampleSet((*samples, Sample("none", "gone.png", 40, 30, "it", ())), folder)


def grabcut(*, device: str | None) -> Segmenter:
    return GrabCutSegmenter(size=64)


def noted(folder: Path, *, device: str | None) -> Segmenter:
    """Creates a file named after the process and its device."""
    (folder / f"{os.getpid()} {device}").touch()
    return GrabCutSegmenter(size=64)


class Counting:
    """Records the number of torch threads at each embedding."""

    def __init__(self, seen: list[int]) -> None:
        self._seen, self._inner = seen, GrabCutSegmenter(size=64)
        self.capabilities = self._inner.capabilities

    def embed(self, image: Image) -> Scene:
        self._seen.append(torch.get_num_threads())
        return self._inner.embed(image)


def counted(seen: list[int], *, device: str | None) -> Segmenter:
    return Counting(seen)


def refused(*, device: str | None) -> Segmenter:
    raise UserError(f"the device {device!r} cannot be used")


def warning(*, device: str | None) -> Segmenter:
    warnings.warn("soon", FutureWarning, stacklevel=1)
    return grabcut(device=device)


def dying(*, device: str | None) -> Segmenter:
    os.kill(os.getpid(), 9)
    raise AssertionError


def dying_in_a_message(*, device: str | None) -> Segmenter:
    """Kills this process after half of its next message."""

    def write_half_and_die(connection: Connection, data: bytes) -> None:
        os.write(connection.fileno(), data[: len(data) // 2])
        os.kill(os.getpid(), 9)

    mock.patch.object(Connection, "_send", write_half_and_die).start()
    return grabcut(device=device)


def endless(*, device: str | None) -> Segmenter:
    """Prints that it has started, and takes longer than any test."""
    print("started", flush=True)  # noqa: T201
    time.sleep(600)
    return grabcut(device=device)


def broken(*, device: str | None) -> Segmenter:
    raise RuntimeError("a slip of the programmer's")
