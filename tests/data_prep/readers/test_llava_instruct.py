from pathlib import Path

import PIL.Image
import pytest

from sam4mllm.data.conversations import read_conversations
from sam4mllm.data_prep.readers.llava_instruct import MISSING, NOT_ALTERNATING, WITHOUT_IMAGE, prepare
from sam4mllm.data_prep.sources import SOURCES
from sam4mllm.errors import UserError
from sam4mllm.language.messages import Turn
from tests.data_prep import raw
from tests.running import invoke

ASK = {"from": "human", "value": "<image>\nWhat is it?"}
SAY = {"from": "gpt", "value": "A bus.\n"}
ASKED, SAID = Turn("user", "What is it?"), Turn("assistant", "A bus.")


def write(root: Path, *conversations: list, folder: str = "images/train2017", **change) -> Path:
    items = [
        {"id": f"00000000000{number}", "image": "000000000009.jpg", "conversations": turns, **change}
        for number, turns in enumerate(conversations)
    ]
    raw.write_files(root, {"llava_instruct/llava_instruct_150k.json": items})
    prefix = "COCO_train2014_" if "2014" in folder else ""
    (root / folder).mkdir(parents=True)
    PIL.Image.new("RGB", (9, 6)).save(root / folder / f"{prefix}000000000009.jpg")
    return root


@pytest.mark.parametrize(
    ("conversation", "turns"),
    [
        pytest.param([ASK, SAY], (ASKED, SAID), id="question and answer"),
        pytest.param([ASK, SAY, {**ASK, "value": "Why?"}, SAY], (ASKED, SAID, Turn("user", "Why?"), SAID), id="two"),
        pytest.param([{**ASK, "value": "What is it?\n<image>"}, SAY], (ASKED, SAID), id="the mark comes last"),
        pytest.param([SAY, ASK, SAY], (ASKED, SAID), id="a first turn that is not the human's goes"),
    ],
)
def test_a_conversation_becomes_turns(tmp_path, conversation, turns):
    reading = prepare(write(tmp_path, conversation))
    [talk] = reading.conversations["train"]
    assert talk.turns == turns
    assert (talk.id, talk.image) == ("llava_instruct-0-000000000000", "train2017/000000000009.jpg")
    assert (talk.width, talk.height) == (9, 6)
    assert not any(reading.noticed.values())


@pytest.mark.parametrize("conversation", [[], [ASK], [ASK, ASK, SAY], [ASK, SAY, ASK], [SAY]], ids=len)
def test_turns_that_do_not_alternate_are_counted(tmp_path, conversation):
    reading = prepare(write(tmp_path, conversation, [ASK, SAY]))
    assert len(reading.conversations["train"]) == 1
    assert reading.noticed[NOT_ALTERNATING] == ["0-000000000000"]


@pytest.mark.parametrize(
    ("change", "what"),
    [({"image": None}, WITHOUT_IMAGE), ({"image": ""}, WITHOUT_IMAGE), ({"image": "000000000008.jpg"}, MISSING)],
)
def test_conversations_without_their_image_are_counted(tmp_path, change, what):
    reading = prepare(write(tmp_path, [ASK, SAY], **change))
    assert reading.conversations == {"train": []}
    assert reading.noticed[what] == ["0-000000000000"]


@pytest.mark.parametrize("home", ["llava_instruct", "llava_dataset", "."])
@pytest.mark.parametrize("year", ["train2014", "train2017"])
@pytest.mark.parametrize("place", [".", "images", "images/mscoco/images", "coco"])
def test_source_and_reader_find_the_same_locations(tmp_path, home, year, place):
    write(tmp_path, [ASK, SAY], folder=f"{place}/{year}")
    file = tmp_path / "llava_instruct" / "llava_instruct_150k.json"
    (tmp_path / home).mkdir(exist_ok=True)
    file.rename(tmp_path / home / file.name)
    reading = prepare(tmp_path)
    [talk] = reading.conversations["train"]
    assert talk.image == f"{year}/{'COCO_train2014_' if year == 'train2014' else ''}000000000009.jpg"
    assert (reading.images / talk.image).is_file()
    assert SOURCES["llava_instruct"].missing_needs(tmp_path) == []
    assert SOURCES["llava_instruct"].has_images(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"image": "../../secret.jpg"}, "conversation 0: an image must be a path below", id="leaves the root"
        ),
        pytest.param(
            {"conversations": [{"from": "system", "value": ""}]}, "missing or unknown: 'system'", id="another role"
        ),
        pytest.param({"conversations": [{"from": "gpt", "value": 5}]}, "expected text, got 5", id="a number as words"),
        pytest.param({"conversations": 5}, "TypeError", id="no list"),
    ],
)
def test_a_file_of_another_form_is_one_line_that_names_it(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as caught:
        prepare(write(tmp_path, [ASK, SAY], **change))
    assert "llava_instruct_150k.json" in str(caught.value)


def test_without_the_file_or_the_images_it_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no such file: .*llava_instruct_150k\.json"):
        prepare(tmp_path)
    write(tmp_path, [ASK, SAY], folder="elsewhere/train2017")
    with pytest.raises(UserError, match=r"no images of COCO: expected one of these folders: .*/images/train2014"):
        prepare(tmp_path)
    assert len(prepare(tmp_path, images=tmp_path / "elsewhere").conversations["train"]) == 1


def test_the_command_writes_conversations(tmp_path):
    write(tmp_path, [ASK, SAY], [ASK])
    result = invoke("data", "llava_instruct", "--root", str(tmp_path), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert f"{NOT_ALTERNATING}: 1 (1-000000000001)" in result.output
    talks = read_conversations(tmp_path / "out" / "train")
    assert [talk.turns for talk in talks] == [(ASKED, SAID)]
    assert talks.path(talks.conversations[0]).is_file()
