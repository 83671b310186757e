import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.targets.record import INDEX, Target, read_targets, write_targets

CLICKED = Prompt(Box(0.1, 2.5, 30.2, 25.0), (Point(1 / 3, 7.5), Point(12.5, 8.25, positive=False)))
TARGETS = [
    Target("a", 0, (CLICKED, Prompt(Box(0, 0, 30, 25))), (0.9, 2 / 3), 0.9),
    Target("a", 1, (), (), 0.125),
    Target("der Löwe 🦁", 0, (CLICKED,), (1.0,), 1.0),
]
ABOUT = {"search": {"keep": 4}, "segmenter": "grabcut", "samples": "5f3a"}

# plain values: the type checks draw random numbers when values are created, which hypothesis allows only in tests
floats = st.floats(-1e6, 1e6)
points = st.tuples(floats, floats, st.booleans())
scored = st.tuples(st.tuples(*[floats] * 4), st.lists(points, max_size=3), st.floats(0, 1))
drafts = st.lists(st.tuples(st.text("añ🦁 /", max_size=3), st.integers(0, 9), st.lists(scored, max_size=3)), max_size=4)


def target_from(name, index, scored) -> Target:
    prompts = tuple(
        Prompt(Box(min(a, b), min(c, d), max(a, b), max(c, d)), tuple(Point(*point) for point in points))
        for (a, b, c, d), points, _ in scored
    )
    ious = tuple(score for _, _, score in scored)
    return Target(name, index, prompts, ious, max(ious, default=0.1))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=30, deadline=None)
@given(drafts)
def test_targets_round_trip_to_the_last_bit(drafts):
    targets = {(name, index): target_from(name, index, scored) for name, index, scored in drafts}
    with tempfile.TemporaryDirectory() as folder:
        write_targets(targets.values(), Path(folder), {})
        targets_read = read_targets(Path(folder))
    assert list(targets_read.items()) == list(targets.items())
    assert repr(targets_read) == repr(targets)  # including the sign of a zero


def test_the_index_stores_the_settings_of_the_targets(tmp_path):
    write_targets(TARGETS, tmp_path, ABOUT)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index.pop("shards") == [path.name for path in tmp_path.glob("*.parquet")]
    assert index == {"version": 1, "about": ABOUT, "count": 3}


def test_a_repeated_mask_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="1 masks occur more than once, the first is mask 1 of a"):
        write_targets([*TARGETS, TARGETS[1]], tmp_path / "new", ABOUT)
    assert not (tmp_path / "new").exists()


def test_a_failing_search_keeps_the_old_targets(tmp_path):
    write_targets(TARGETS, tmp_path, ABOUT)
    before = content(tmp_path)

    def broken():
        yield TARGETS[0]
        raise UserError("sample a: no such file")

    with pytest.raises(UserError, match="no such file"):
        write_targets(broken(), tmp_path, ABOUT)
    assert content(tmp_path) == before


def test_an_invalid_box_is_a_one_line_error(tmp_path):
    write_targets(TARGETS, tmp_path, ABOUT)
    shard = next(tmp_path.glob("*.parquet"))
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[2]["prompts"][0]["x0"] = 99.0
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard)
    with pytest.raises(UserError, match="mask 0 of der Löwe 🦁 is damaged: a box needs x0 <= x1"):
        read_targets(tmp_path)


def test_an_index_without_settings_is_refused(tmp_path):
    (tmp_path / INDEX).write_text('{"version": 1, "count": 0, "shards": []}')
    with pytest.raises(UserError, match="should hold version, about, count"):
        read_targets(tmp_path)
