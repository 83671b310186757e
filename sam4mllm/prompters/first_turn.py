"""The first turn of every strategy: one question per image, and the reply parsed into prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from sam4mllm.geometry.prompts import Frame
from sam4mllm.language.notation import Dialect
from sam4mllm.language.templates import Reading, ask_boxes, parse_boxes
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.prompters import Prompting, Query


def ask_for_boxes(mllm: MLLM, queries: Sequence[Query]) -> tuple[Chat, list[Prompting]]:
    """A first turn with boxes and no points; returns what `first_turn` returns."""
    return first_turn(mllm, queries, [ask_boxes(query.phrase, mllm.dialect) for query in queries], parse_boxes)


def first_turn(
    mllm: MLLM,
    queries: Sequence[Query],
    texts: Sequence[str],
    read: Callable[[str, Dialect, Frame], Reading],
) -> tuple[Chat, list[Prompting]]:
    """Open a chat with one conversation per query, send each its text, and parse the replies.

    Args:
        mllm: the model.
        queries: one or more queries.
        texts: one question per query.
        read: parses a reply in the model's dialect and the image's frame.

    Returns:
        The chat, for further turns, and one `Prompting` per query. ``timings["first"]`` holds the seconds of this turn.
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
