"""The turn that every strategy begins with: one question about each picture, read into prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from sam4mllm.geometry.prompts import Frame
from sam4mllm.language.dialects import Dialect
from sam4mllm.language.templates import Reading, ask_boxes, read_boxes
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.prompters import Prompting, Query


def boxes_turn(mllm: MLLM, queries: Sequence[Query]) -> tuple[Chat, list[Prompting]]:
    """The first turn that asks for the boxes and nothing more."""
    return first_turn(mllm, queries, [ask_boxes(query.phrase, mllm.dialect) for query in queries], read_boxes)


def first_turn(
    mllm: MLLM,
    queries: Sequence[Query],
    texts: Sequence[str],
    read: Callable[[str, Dialect, Frame], Reading],
) -> tuple[Chat, list[Prompting]]:
    """Open the queries' pictures, ask one text about each, and read the replies.

    Returns:
        The chat, for further turns, and one `Prompting` per query with the seconds of this turn under ``first``.
    """
    start = perf_counter()
    chat = mllm.open([query.image for query in queries], [query.key for query in queries])
    replies = chat.answer(texts)
    readings = [read(reply.text, mllm.dialect, frame) for reply, frame in zip(replies, chat.frames, strict=True)]
    seconds = (perf_counter() - start) / len(queries)
    return chat, [
        Prompting(reading.prompts, (reply,), reading.readable, timings={"first": seconds})
        for reading, reply in zip(readings, replies, strict=True)
    ]
