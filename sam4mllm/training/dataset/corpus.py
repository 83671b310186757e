"""The training corpus: samples with their targets, conversations, and the reasons why some of them cannot be used.

The sources are the entries of `data` in a recipe:

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

from sam4mllm.data.conversations import Conversation, ConversationSet, read_conversations
from sam4mllm.data.samples import Sample, SampleSet, read_samples, read_shared_image
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image
from sam4mllm.targets.record import Target, read_targets
from sam4mllm.training.dataset.mixture import KINDS, TALK, DataSource, Mixture, Rows

log = logging.getLogger(__name__)
Targets: TypeAlias = Mapping[tuple[str, int], Target]
NAMED = 3  # ids per reason in a warning


@dataclass(frozen=True, slots=True)
class LoadedSource:
    """The contents of one source.

    Attributes:
        name: the source's folder, for counts and errors.
        rows: its samples or conversations.
        targets: for PPG, the prompts that redraw each mask best; if None, PPG uses random clicks in each mask's box.
        weight: how often an epoch uses the source, as in `DataSource`.
    """

    name: str
    rows: SampleSet | ConversationSet
    targets: Targets | None = None
    weight: float = 1.0

    @property
    def noun(self) -> str:
        """The singular noun for its rows in messages."""
        return "talk" if isinstance(self.rows, ConversationSet) else "sample"

    def read_image(self, items: Sequence[Sample | Conversation]) -> Image:
        """The image that these rows share.

        Raises:
            UserError: if the image cannot be read or its size differs from the one a row records; the message names
                the row and the image.
        """
        return read_shared_image(self.rows.images / items[0].image, self.noun, items)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The samples or conversations of a source that one kind of row cannot use, and the reason."""

    source: str
    kind: str
    reason: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """The items of all sources, numbered 0, 1, 2 ...

    Attributes:
        parts: the sources.
        items: their samples and conversations.
        source: the index of each item's source in ``parts``.
        image: the number of each item's image; images of different sources have different numbers.
        uses: whether each item can be used for each of `KINDS`.
        left_out: the items that cannot be used for some kind, and the reasons.
    """

    parts: tuple[LoadedSource, ...]
    items: tuple[Sample | Conversation, ...]
    source: Int64[np.ndarray, "items"]
    image: Int64[np.ndarray, "items"]
    uses: Bool[np.ndarray, "kinds items"]
    left_out: tuple[LeftOut, ...]

    def part(self, item: int) -> LoadedSource:
        """The source of an item."""
        return self.parts[int(self.source[item])]

    def ids_with_training_images(self, samples: SampleSet) -> tuple[str, ...]:
        """The ids of the samples with an image that is also used for training; images are compared by path."""
        used = np.flatnonzero(self.uses.any(axis=0))
        roots = [part.rows.images.resolve() for part in self.parts]
        training_images = {roots[self.source[at]] / self.items[at].image for at in used.tolist()}
        root = samples.images.resolve()
        return tuple(sample.id for sample in samples if root / sample.image in training_images)

    def without(self, barred: Bool[np.ndarray, "kinds items"], reason: str) -> Corpus:
        """A corpus that does not use the barred items for the barred kinds.

        Raises:
            UserError: if no item is left for a kind that had some.
        """
        more = [
            LeftOut(part.name, kind, reason, tuple(self.items[item].id for item in indices))
            for number, part in enumerate(self.parts)
            for kind, row in zip(KINDS, barred & self.uses, strict=True)
            if (indices := np.flatnonzero(row & (self.source == number))).size
        ]
        left_out = (*self.left_out, *more)
        uses = self.uses & ~barred
        _check_uses([kind for kind, row in zip(KINDS, self.uses, strict=True) if row.any()], uses, left_out)
        _warn_left_out(more, self.parts)
        return Corpus(self.parts, self.items, self.source, self.image, uses, left_out)


def read_sources(sources: Sequence[DataSource]) -> tuple[LoadedSource, ...]:
    """Read the sources with a weight above 0.

    Raises:
        UserError: if no source has a weight above 0, or a folder cannot be read.
    """
    parts = tuple(_read(source) for source in sources if source.weight)
    if not parts:
        raise UserError("no training data: data has no source with a weight above 0")
    return parts


def corpus(parts: Sequence[LoadedSource], rows: Rows) -> Corpus:
    """The corpus of these sources; items that cannot be used are counted, and a warning names them.

    Raises:
        UserError: if targets belong to other samples or have more points than the rows request, or if no item can be
            used for a kind with a weight above 0.
    """
    for part in parts:
        if part.targets is not None and rows.mixture.ppg:
            _check_targets(part, part.targets, rows)
    items = tuple(item for part in parts for item in part.rows)
    source = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
    pictures: dict[tuple[int, str], int] = {}
    images = zip(source.tolist(), [item.image for item in items], strict=True)
    numbers = [pictures.setdefault(key, len(pictures)) for key in images]
    obstacles = [kinds for part in parts for kinds in _obstacles(part, rows.mixture)]
    uses = np.array([[kind in kinds and kinds[kind] is None for kinds in obstacles] for kind in KINDS], dtype=bool)
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for item, number, kinds in zip(items, source.tolist(), obstacles, strict=True):
        for kind, reason in kinds.items():
            if reason is not None:
                reasons.setdefault((parts[number].name, kind, reason), []).append(item.id)
    left_out = tuple(LeftOut(*key, tuple(ids)) for key, ids in reasons.items())
    _check_uses(_required_kinds(parts, rows.mixture), uses, left_out)
    _warn_left_out(left_out, parts)
    return Corpus(tuple(parts), items, source, np.array(numbers, dtype=np.int64), uses, left_out)


def check_files(corpus: Corpus) -> None:
    """Check that all image files exist, without reading them.

    Raises:
        UserError: for the first image file that does not exist.
    """
    for index in np.unique(corpus.image, return_index=True)[1]:
        item, part = corpus.items[index], corpus.part(int(index))
        path = part.rows.images / item.image
        if not path.exists():
            raise UserError(f"{part.noun} {item.id}: no such file: {path}")


def _warn_left_out(left_out: Iterable[LeftOut], parts: Sequence[LoadedSource]) -> None:
    """Log a warning for each source and kind: the number of unused items, the reasons, and the first ids for each."""
    sizes = {part.name: (len(part.rows), part.noun) for part in parts}
    groups: dict[tuple[str, str], list[LeftOut]] = {}
    for entry in left_out:
        groups.setdefault((entry.source, entry.kind), []).append(entry)
    for (source, kind), entries in groups.items():
        count, noun = sizes[source]
        log.warning("%s: not used for %s, of %d %ss: %s.", source, kind, count, noun, _format_reasons(entries))


def _read(source: DataSource) -> LoadedSource:
    images = Path(source.images) if source.images else None
    if source.talks is not None:
        return LoadedSource(source.talks, read_conversations(Path(source.talks), images), weight=source.weight)
    assert source.samples is not None  # `DataSource` has either samples or talks
    targets = read_targets(Path(source.targets)) if source.targets else None
    return LoadedSource(source.samples, read_samples(Path(source.samples), images), targets, source.weight)


def _required_kinds(parts: Sequence[LoadedSource], mixture: Mixture) -> list[str]:
    """The kinds that need at least one item: those with a weight above 0 for which there is a source."""
    nouns = {part.noun for part in parts}
    return [*(_weighted_kinds(mixture) if "sample" in nouns else ()), *([TALK] if "talk" in nouns else ())]


def _weighted_kinds(mixture: Mixture) -> list[str]:
    return [kind for kind, weight in asdict(mixture).items() if weight]


def _obstacles(part: LoadedSource, mixture: Mixture) -> list[dict[str, str | None]]:
    """For each item and kind, the reason why the item cannot be used; None if it can."""
    if isinstance(part.rows, ConversationSet):
        return [{TALK: _talk_obstacle(talk)} for talk in part.rows]
    kinds, obstacles = _weighted_kinds(mixture), []
    for sample in part.rows:
        obstacle, of_ppg = _sample_obstacle(sample), _target_obstacle(sample, part.targets)
        obstacles.append({kind: obstacle or (of_ppg if kind == "ppg" else None) for kind in kinds})
    return obstacles


def _talk_obstacle(talk: Conversation) -> str | None:
    """The reason why a conversation cannot be used; None if it can."""
    empty = next((turn for turn in talk.turns if not turn.text.strip()), None)
    return None if empty is None else ("a reply is empty" if empty.role == "assistant" else "a question is empty")


def _sample_obstacle(sample: Sample) -> str | None:
    """The reason why a sample cannot be used for any kind; None if it can."""
    if not sample.phrase.strip():
        return "the phrase is empty"
    return "a mask is empty" if any(mask.box is None for mask in sample.masks) else None


def _target_obstacle(sample: Sample, targets: Targets | None) -> str | None:
    """The reason why a sample's targets cannot be used for PPG; None if they can, or if there are none to use."""
    if targets is None:
        return None
    mask_targets = [targets.get((sample.id, index)) for index in range(len(sample.masks))]
    if None in mask_targets:
        return "a mask has no target"
    if not all(target.prompts for target in mask_targets if target):
        return "no prompt redraws a mask well enough"
    return None


def _check_uses(kinds: Sequence[str], uses: Bool[np.ndarray, "kinds items"], left_out: Sequence[LeftOut]) -> None:
    for kind in kinds:
        if not uses[KINDS.index(kind)].any():
            reasons = _format_reasons([entry for entry in left_out if entry.kind == kind]) or "there is none"
            raise UserError(f"no {'talk' if kind == TALK else 'sample'} can be used for {kind}: {reasons}")


def _check_targets(part: LoadedSource, targets: Targets, rows: Rows) -> None:
    """Refuse targets of other samples, and targets with more points than the rows request."""
    with_masks = {item.id for item in part.rows if isinstance(item, Sample) and item.masks}
    if not targets and with_masks:
        raise UserError(f"no targets for {part.name}: the targets folder is empty")
    named = {name for name, _ in targets}
    if with_masks and not with_masks & named:
        raise UserError(f"the targets belong to other samples: none of their {len(named)} ids is in {part.name}")
    prompts = [prompt for target in targets.values() for prompt in target.prompts]
    for name, sign, count in (("positive", True, rows.positive), ("negative", False, rows.negative)):
        most = max((sum(point.positive is sign for point in prompt.points) for prompt in prompts), default=count)
        difference = f"the rows ask for {count} {name} points, but the targets of {part.name} have up to {most}"
        if most > count:
            raise UserError(f"{difference}: set rows.{name} to {most}")
        if most < count:  # the search grid may have fewer places on every mask
            log.warning("%s.", difference)


def _format_reasons(left_out: Sequence[LeftOut]) -> str:
    return ", ".join(f"{len(entry.ids)} ({entry.reason}: {first_ids(entry.ids)})" for entry in left_out)


def first_ids(ids: Sequence[str]) -> str:
    """The first ids, with an ellipsis if there are more."""
    return ", ".join(ids[:NAMED]) + (" ..." if len(ids) > NAMED else "")
