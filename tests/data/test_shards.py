import json
from pathlib import Path

import pyarrow as pa
import pytest

from sam4mllm.data.shards import Kind, read_shards, write_shards
from sam4mllm.errors import UserError

CATS = Kind(
    "cats",
    "cats.json",
    3,
    pa.schema([pa.field("name", pa.string(), nullable=False), pa.field("lives", pa.int32(), nullable=False)]),
    noted={"owner": str},
    writer="the breeder",
)
ROWS = [{"name": name, "lives": lives} for lives, name in enumerate(["Tom", "Муся", "🐈", "", "Tom"])]


def write(rows, folder: Path, **options) -> None:
    with write_shards(CATS, rows, folder, {"owner": "Ada"}, **options) as index:
        (folder / CATS.index).write_text(index)


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.parquet"))


@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("count", range(6))
def test_rows_are_read_in_order_from_the_fewest_shards_possible(tmp_path, count, size):
    write(iter(ROWS[:count]), tmp_path, rows_per_shard=size)
    index, rows = read_shards(CATS, tmp_path, lambda row: row)
    assert rows == ROWS[:count]
    assert len(index["shards"]) == len(shards(tmp_path)) == max(1, -(-count // size))
    assert (index["version"], index["owner"], index["count"]) == (3, "Ada", count)


def test_rows_are_converted_while_reading(tmp_path):
    write(ROWS, tmp_path)
    assert read_shards(CATS, tmp_path, lambda row: row["lives"])[1] == [0, 1, 2, 3, 4]


def test_the_name_of_a_shard_depends_on_its_content(tmp_path):
    for name, rows in (("one", ROWS), ("same", ROWS), ("other", ROWS[::-1])):
        write(rows, tmp_path / name)
    assert shards(tmp_path / "one") == shards(tmp_path / "same") != shards(tmp_path / "other")


def test_a_failed_block_leaves_the_old_rows(tmp_path):
    write(ROWS, tmp_path)
    with pytest.raises(UserError, match="full"), write_shards(CATS, ROWS[:1], tmp_path, {"owner": "Bob"}):
        raise UserError("the disk is full")
    assert read_shards(CATS, tmp_path, lambda row: row)[1] == ROWS


def test_only_stale_shards_of_this_kind_are_removed(tmp_path):
    write(ROWS, tmp_path, rows_per_shard=2)
    for other in ("dogs-00000-0.parquet", "notes.txt"):
        (tmp_path / other).touch()
    write(ROWS[:2], tmp_path, rows_per_shard=2)
    assert [name.split("-")[0] for name in shards(tmp_path)] == ["cats", "dogs"]
    assert (tmp_path / "notes.txt").exists()


def test_an_unwritable_folder_is_a_one_line_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write") as caught:
        write(ROWS, tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_every_flipped_byte_of_the_rows_is_detected(tmp_path):
    write(ROWS, tmp_path)
    [name] = shards(tmp_path)
    data = (tmp_path / name).read_bytes()
    detected = 0
    for place in range(len(data)):
        (tmp_path / name).write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        try:
            assert read_shards(CATS, tmp_path, lambda row: row)[1] == ROWS  # bytes of the footer may be unused
        except UserError as error:
            detected += 1
            assert "\n" not in str(error)  # noqa: PT017  reading without an error is valid too
    assert detected > len(data) / 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"version": 4}, "has cats of version 4, this sam4mllm reads up to 3", id="newer"),
        pytest.param({"owner": 7}, "is damaged: it should hold version, owner, count and shards", id="noted"),
        pytest.param({"shards": ["../cats.parquet"]}, "is damaged", id="leaving"),
        pytest.param({"shards": ["cats.parquet"]}, "cannot read the shard", id="no shard"),
        pytest.param({"shards": []}, "holds 0 cats, but cats.json lists 5", id="count"),
    ],
)
def test_an_invalid_index_is_a_one_line_error(tmp_path, change, message):
    write(ROWS, tmp_path)
    index = json.loads((tmp_path / CATS.index).read_text())
    (tmp_path / CATS.index).write_text(json.dumps({**index, **change}))
    with pytest.raises(UserError, match=message) as caught:
        read_shards(CATS, tmp_path, lambda row: row)
    assert "\n" not in str(caught.value)


def test_a_missing_index_names_the_command_that_writes_it(tmp_path):
    with pytest.raises(UserError, match=r"is not a cats folder: it has no cats\.json; create one with the breeder"):
        read_shards(CATS, tmp_path, lambda row: row)
