from dataclasses import replace
from pathlib import Path

import pytest

from sam4mllm.data.conversations import Conversation, read_conversations, write_conversations
from sam4mllm.data.samples import read_samples, write_samples
from sam4mllm.errors import UserError
from sam4mllm.language.messages import Turn

QUESTION, ANSWER = Turn("user", "What is it?"), Turn("assistant", "Ein Löwe 🦁\n")
LION = Conversation("a", "train/1.jpg", 3, 4, (QUESTION, ANSWER), source="toy", split="train")
TALKS = [LION, replace(LION, id="b", turns=(QUESTION, ANSWER, QUESTION, ANSWER)), replace(LION, id="c", split="val")]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("talks", [TALKS, TALKS[:1], []], ids=["all", "one", "none"])
def test_talks_survive_writing_and_reading(tmp_path, talks):
    write_conversations(talks, tmp_path / "train", tmp_path / "images")
    talk_set = read_conversations(tmp_path / "train")
    assert list(talk_set) == talks
    assert len(talk_set) == len(talks)
    assert talk_set.path(LION) == tmp_path / "images" / "train/1.jpg"
    assert read_conversations(tmp_path / "train", images=Path("/other")).images == Path("/other")


def test_equal_talks_give_equal_bytes_and_samples_stay(tmp_path):
    write_samples([], tmp_path / "one", Path("/data/images"))
    before = content(tmp_path / "one")
    write_conversations(TALKS, tmp_path / "one", Path("/data/images"))
    write_conversations(TALKS[:1], tmp_path / "two", Path("/data/images"))
    write_conversations(iter(TALKS), tmp_path / "two", Path("/data/images"))
    assert content(tmp_path / "one") == before | content(tmp_path / "two")
    assert len(read_samples(tmp_path / "one")) == 0


@pytest.mark.parametrize(
    "turns",
    [(), (QUESTION,), (ANSWER, QUESTION), (QUESTION, ANSWER, QUESTION), (QUESTION, QUESTION, ANSWER, ANSWER)],
    ids=len,
)
def test_turns_out_of_order_are_refused(turns):
    with pytest.raises(UserError, match="talk a: turns must alternate"):
        replace(LION, turns=turns)


def test_an_image_cannot_leave_the_root():
    with pytest.raises(UserError, match=r"talk a: an image must be a path below the image root, got '\.\./x\.jpg'"):
        replace(LION, image="../x.jpg")


def test_a_repeated_id_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="1 talk ids occur more than once, the first is 'a"):
        write_conversations([LION, LION], tmp_path / "new", tmp_path)
    assert not (tmp_path / "new").exists()
