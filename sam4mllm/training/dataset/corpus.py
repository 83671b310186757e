"""What is taught from: folders of samples with their targets, and of talks; what of them cannot be used, and why.

Knows nothing of conversations, tokens and models. In a recipe:

    data:
      - {samples: data/refcoco/train, targets: data/refcoco/targets}
      - {talks: data/vqa/train, weight: 0.2}
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int64

from sam4mllm.data.conversations import Talk, TalkSet, read_talks
from sam4mllm.data.samples import Sample, SampleSet, read_samples, read_shown
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image
from sam4mllm.targets.record import Target, read_targets
from sam4mllm.training.dataset.mixture import KINDS, TALK, Mixture, Rows, Source

log = logging.getLogger(__name__)
Targets: TypeAlias = Mapping[tuple[str, int], Target]
NAMED = 3  # ids in a line of the log


@dataclass(frozen=True, slots=True)
class Part:
    """One source, read.

    Attributes:
        name: what it is called in counts and errors.
        rows: what it holds.
        targets: for PPG, the prompts that redraw each mask best; random clicks in each mask's box where None.
        weight: as in `Source`.
    """

    name: str
    rows: SampleSet | TalkSet
    targets: Targets | None = None
    weight: float = 1.0

    @property
    def word(self) -> str:
        """What one of its rows is."""
        return "talk" if isinstance(self.rows, TalkSet) else "sample"

    def picture(self, items: Sequence[Sample | Talk]) -> Image:
        """The one picture that some of its rows are about.

        Raises:
            UserError: naming row and picture, where it cannot be read or has another size than a row says.
        """
        return read_shown(self.rows.images / items[0].image, self.word, items)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Samples or talks that are not used in one way for one reason; they are used in other ways, where they can be."""

    source: str
    kind: str
    reason: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """All that is taught from, in one line: item 0, 1, 2 ...

    Attributes:
        parts: the sources.
        items: their samples and talks.
        source: which part each is of.
        picture: which picture each is about; those of two sources are never one.
        uses: whether each can be used in each of `KINDS`.
        left_out: what cannot, and why.
    """

    parts: tuple[Part, ...]
    items: tuple[Sample | Talk, ...]
    source: Int64[np.ndarray, "items"]
    picture: Int64[np.ndarray, "items"]
    uses: Bool[np.ndarray, "kinds items"]
    left_out: tuple[LeftOut, ...]

    def part(self, item: int) -> Part:
        """The source of an item."""
        return self.parts[int(self.source[item])]

    def known(self, others: SampleSet) -> tuple[str, ...]:
        """The ids of those of other samples whose pictures are taught from; they are told by their places."""
        used = np.flatnonzero(self.uses.any(axis=0))
        roots = [part.rows.images.resolve() for part in self.parts]
        own = {roots[self.source[at]] / self.items[at].image for at in used.tolist()}
        root = others.images.resolve()
        return tuple(sample.id for sample in others if root / sample.image in own)

    def without(self, barred: Bool[np.ndarray, "kinds items"], reason: str) -> Corpus:
        """The same but for some ways of using some items, which are left out for a reason.

        Raises:
            UserError: where a way is left without any.
        """
        more = [
            LeftOut(part.name, kind, reason, tuple(self.items[item].id for item in found))
            for number, part in enumerate(self.parts)
            for kind, row in zip(KINDS, barred & self.uses, strict=True)
            if (found := np.flatnonzero(row & (self.source == number))).size
        ]
        left_out = (*self.left_out, *more)
        uses = self.uses & ~barred
        _check_uses([kind for kind, row in zip(KINDS, self.uses, strict=True) if row.any()], uses, left_out)
        tell(more, self.parts)
        return Corpus(self.parts, self.items, self.source, self.picture, uses, left_out)


def read_sources(sources: Sequence[Source]) -> tuple[Part, ...]:
    """The sources that have weight.

    Raises:
        UserError: where none has, or a folder cannot be read.
    """
    parts = tuple(_read(source) for source in sources if source.weight)
    if not parts:
        raise UserError("there is nothing to learn from: data names no source whose weight is above 0")
    return parts


def corpus(parts: Sequence[Part], rows: Rows) -> Corpus:
    """What rows can be made of; what cannot be used is counted and told.

    Raises:
        UserError: for targets of other samples or with other numbers of points than the rows ask for, and where a way
            that has weight can use no sample.
    """
    for part in parts:
        if part.targets is not None and rows.mixture.ppg:
            _check_targets(part, part.targets, rows)
    items = tuple(item for part in parts for item in part.rows)
    source = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
    pictures: dict[tuple[int, str], int] = {}
    numbers = [
        pictures.setdefault(key, len(pictures))
        for key in zip(source.tolist(), [item.image for item in items], strict=True)
    ]
    ways = [way for part in parts for way in _ways(part, rows.mixture)]
    uses = np.array([[kind in way and way[kind] is None for way in ways] for kind in KINDS], dtype=bool)
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for item, number, way in zip(items, source.tolist(), ways, strict=True):
        for kind, reason in way.items():
            if reason is not None:
                reasons.setdefault((parts[number].name, kind, reason), []).append(item.id)
    left_out = tuple(LeftOut(*key, tuple(ids)) for key, ids in reasons.items())
    _check_uses(_wanted(parts, rows.mixture), uses, left_out)
    tell(left_out, parts)
    return Corpus(tuple(parts), items, source, np.array(numbers, dtype=np.int64), uses, left_out)


def check_files(found: Corpus) -> None:
    """Make sure that every picture's file is there; none is read.

    Raises:
        UserError: for the first that is not.
    """
    for at in np.unique(found.picture, return_index=True)[1]:
        item, part = found.items[at], found.part(int(at))
        path = part.rows.images / item.image
        if not path.exists():
            raise UserError(f"{part.word} {item.id}: no such file: {path}")


def tell(left_out: Iterable[LeftOut], parts: Sequence[Part]) -> None:
    """One warning for each source and way: how many are not used, the reasons, and the first ids of each."""
    sizes = {part.name: (len(part.rows), part.word) for part in parts}
    told: dict[tuple[str, str], list[LeftOut]] = {}
    for one in left_out:
        told.setdefault((one.source, one.kind), []).append(one)
    for (source, kind), some in told.items():
        count, word = sizes[source]
        log.warning("Of the %d %ss of %s are not used for %s: %s.", count, word, source, kind, _said(some))


def _read(source: Source) -> Part:
    images = Path(source.images) if source.images else None
    if source.talks is not None:
        return Part(source.talks, read_talks(Path(source.talks), images), weight=source.weight)
    assert source.samples is not None  # a source is one or the other
    targets = read_targets(Path(source.targets)) if source.targets else None
    return Part(source.samples, read_samples(Path(source.samples), images), targets, source.weight)


def _wanted(parts: Sequence[Part], mixture: Mixture) -> list[str]:
    """The ways that something should be found for: those that have weight, where there is a source of their sort."""
    words = {part.word for part in parts}
    ways = [kind for kind, weight in asdict(mixture).items() if weight] if "sample" in words else []
    return [*ways, TALK] if "talk" in words else ways


def _ways(part: Part, mixture: Mixture) -> list[dict[str, str | None]]:
    """For each item the ways in which it might be used, and why it cannot; None where it can."""
    if isinstance(part.rows, TalkSet):
        return [{TALK: _silence(talk)} for talk in part.rows]
    kinds = [kind for kind, weight in asdict(mixture).items() if weight]
    found = []
    for sample in part.rows:
        always = _reason(sample)
        found.append({kind: always or _reason_for(kind, sample, part.targets) for kind in kinds})
    return found


def _silence(talk: Talk) -> str | None:
    """Why nothing can be learned from a talk."""
    empty = next((turn for turn in talk.turns if not turn.text.strip()), None)
    return None if empty is None else ("a reply is empty" if empty.role == "assistant" else "a question is empty")


def _reason(sample: Sample) -> str | None:
    """Why a sample cannot be used in any way."""
    if not sample.phrase.strip():
        return "the phrase is empty"
    return "a mask is empty" if any(mask.box is None for mask in sample.masks) else None


def _reason_for(kind: str, sample: Sample, targets: Targets | None) -> str | None:
    """Why a sample cannot be used in one way, though it can in others."""
    if kind != "ppg" or targets is None:
        return None
    found = [targets.get((sample.id, index)) for index in range(len(sample.masks))]
    if None in found:
        return "a mask has no target"
    kept = all(target.prompts for target in found if target)
    return None if kept else "no prompt redraws a mask well enough"


def _check_uses(wanted: Sequence[str], uses: Bool[np.ndarray, "kinds items"], left_out: Sequence[LeftOut]) -> None:
    for kind in wanted:
        if not uses[KINDS.index(kind)].any():
            why = _said([one for one in left_out if one.kind == kind]) or "there is none"
            raise UserError(f"no {'talk' if kind == TALK else 'sample'} can be used for {kind}: {why}")


def _check_targets(part: Part, targets: Targets, rows: Rows) -> None:
    """Refuse targets that these samples and rows cannot mean."""
    with_masks = {item.id for item in part.rows if isinstance(item, Sample) and item.masks}
    if not targets and with_masks:
        raise UserError(f"there are no targets for {part.name}: their folder holds none")
    named = {name for name, _ in targets}
    if with_masks and not with_masks & named:
        raise UserError(f"the targets are of other samples: no id of {part.name} is among their {len(named)}")
    prompts = [prompt for target in targets.values() for prompt in target.prompts]
    for name, sign, asked in (("positive", True, rows.positive), ("negative", False, rows.negative)):
        most = max((sum(point.positive is sign for point in prompt.points) for prompt in prompts), default=asked)
        said = f"the rows ask for {asked} {name} points, and the targets of {part.name} have {most}"
        if most > asked:
            raise UserError(f"{said}: set rows.{name} to {most}")
        if most < asked:  # on a lattice no mask need have as many places on it as are looked for
            log.warning("%s at the most.", said)


def _said(left_out: Sequence[LeftOut]) -> str:
    return ", ".join(f"{len(one.ids)} ({one.reason}: {some(one.ids)})" for one in left_out)


def some(ids: Sequence[str]) -> str:
    """The first of many ids."""
    return ", ".join(ids[:NAMED]) + (" ..." if len(ids) > NAMED else "")
