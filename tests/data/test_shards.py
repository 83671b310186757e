import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sam4mllm.data import shards
from sam4mllm.data.shards import Kind, read_shards, required, write_shards
from sam4mllm.errors import UserError

CATS = Kind(
    "cats",
    "cats.json",
    3,
    pa.schema([required("name", pa.string()), required("lives", pa.int32())]),
    index_fields={"owner": str},
    writer="the breeder",
)
ROWS = [{"name": name, "lives": lives} for lives, name in enumerate(["Tom", "Муся", "🐈", "", "Tom"])]


def write(rows, folder: Path) -> None:
    write_shards(CATS, rows, folder, {"owner": "Ada"})


def shard_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.parquet"))


@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("count", range(6))
def test_rows_are_read_in_order_from_the_fewest_shards_possible(tmp_path, monkeypatch, count, size):
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", size)
    write(iter(ROWS[:count]), tmp_path)
    index, rows = read_shards(CATS, tmp_path, lambda row: row)
    assert rows == ROWS[:count]
    assert len(index["shards"]) == len(shard_names(tmp_path)) == max(1, -(-count // size))
    assert (index["version"], index["owner"], index["count"]) == (3, "Ada", count)


def test_rows_are_converted_while_reading(tmp_path):
    write(ROWS, tmp_path)
    assert read_shards(CATS, tmp_path, lambda row: row["lives"])[1] == [0, 1, 2, 3, 4]


def test_the_name_of_a_shard_depends_on_its_content(tmp_path):
    for name, rows in (("one", ROWS), ("same", ROWS), ("other", ROWS[::-1])):
        write(rows, tmp_path / name)
    assert shard_names(tmp_path / "one") == shard_names(tmp_path / "same") != shard_names(tmp_path / "other")


def test_a_failed_write_leaves_the_old_rows(tmp_path, monkeypatch):
    def disk_full(*_):
        raise UserError("cannot write: No space left on device")

    write(ROWS, tmp_path)
    monkeypatch.setattr(shards, "write_text", disk_full)
    with pytest.raises(UserError, match="No space"):
        write(ROWS[:1], tmp_path)
    assert read_shards(CATS, tmp_path, lambda row: row)[1] == ROWS


def test_only_stale_shards_of_this_kind_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 2)
    write(ROWS, tmp_path)
    for other in ("dogs-00000-0.parquet", "notes.txt"):
        (tmp_path / other).touch()
    write(ROWS[:2], tmp_path)
    assert [name.split("-")[0] for name in shard_names(tmp_path)] == ["cats", "dogs"]
    assert (tmp_path / "notes.txt").exists()


def test_an_unwritable_folder_is_a_one_line_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write") as caught:
        write(ROWS, tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_every_flipped_byte_of_the_rows_is_detected(tmp_path):
    write(ROWS, tmp_path)
    [name] = shard_names(tmp_path)
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
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot read the shard"):
        read_shards(CATS, tmp_path, lambda row: row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"version": 4, "shards": "any"}, "has cats of version 4, this sam4mllm reads up to 3", id="newer"),
        pytest.param({"owner": 7}, "is damaged: it should hold version, owner, count and shards", id="index_fields"),
        pytest.param({"shards": ["../cats.parquet"]}, "is damaged", id="leaving"),
        pytest.param({"shards": ["cats.parquet"]}, "cannot read the shard", id="no shard"),
        pytest.param({"shards": []}, "holds 0 cats, but cats.json lists 5", id="count"),
    ],
)
def test_an_invalid_index_is_a_one_line_error(tmp_path, change, message):
    write(ROWS, tmp_path)
    index = json.loads((tmp_path / CATS.index).read_text())
    assert_refused(tmp_path, json.dumps({**index, **change}), message)


def test_a_missing_or_truncated_index_is_a_one_line_error(tmp_path):
    assert_refused(tmp_path, None, r"is not a cats folder: it has no cats\.json; create one with the breeder")
    assert_refused(tmp_path, "{", r"cats\.json is damaged")


def test_an_unrelated_parquet_file_is_refused(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    index = {"version": 1, "owner": "Ada", "count": 1, "shards": ["a.parquet"]}
    assert_refused(tmp_path, json.dumps(index), "is not a shard of cats: its columns are x")


def assert_refused(folder: Path, index: str | None, message: str) -> None:
    if index is not None:
        (folder / CATS.index).write_text(index)
    with pytest.raises(UserError, match=message) as caught:
        read_shards(CATS, folder, lambda row: row)
    assert "\n" not in str(caught.value)
