import json
import os
import pickle
import resource
from pathlib import Path

import pytest

from sam4mllm.data_prep.formats import safe_io
from sam4mllm.data_prep.formats.safe_io import read_json, read_pickle
from sam4mllm.errors import UserError
from tests.data_prep.errors import one_line_error

REFS = [{"ref_id": 1, "area": 2.5, "big": 2**60, "sentences": [{"sent": "die Löwen"}], "none": None, "t": (1, True)}]
LISTED = [{**REFS[0], "t": [1, True]}]


def write(folder: Path, content: bytes) -> Path:
    path = folder / "refs(unc).p"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_every_protocol_are_read(tmp_path, protocol):
    assert read_pickle(write(tmp_path, pickle.dumps(REFS, protocol=protocol))) == LISTED


def test_text_of_python_2_is_read_both_as_str_and_as_unicode(tmp_path):
    """What Python 2 writes for [{'sent': 'the cat', u'raw': u'the l\\xf6we'}] in protocol 2."""
    content = b"\x80\x02]q\x00}q\x01(U\x04sentq\x02U\x07the catq\x03"
    content += b"X\x03\x00\x00\x00rawq\x04X\x09\x00\x00\x00the l\xc3\xb6weq\x05ua."
    assert read_pickle(write(tmp_path, content)) == [{"sent": "the cat", "raw": "the löwe"}]


class Trap:
    def __reduce__(self):
        return os.system, ("echo sprung > sprung",)


class Named:
    """Pickled as a name alone."""


class Outside(pickle.Pickler):
    def persistent_id(self, value):
        return "file:///etc/passwd" if isinstance(value, set) else None


def outside(protocol: int, folder: Path) -> bytes:
    with (folder / "outside").open("wb") as file:
        Outside(file, protocol=protocol).dump([set()])
    return (folder / "outside").read_bytes()


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_anything_but_plain_values_is_refused_by_name(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    for content, name in (
        (pickle.dumps([Trap()], protocol=protocol), r"(posix|nt)\.system"),
        (pickle.dumps(Named, protocol=protocol), r"tests\.data_prep\.formats\.test_safe_io\.Named"),
        (outside(protocol, tmp_path), "the outside object 'file:"),
    ):
        with one_line_error(f"it names {name}"):
            read_pickle(write(tmp_path, content))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x80\x02]r\xff\xff\xff\x7f.", id="a list kept as number 2 ** 31 - 1"),
        pytest.param(b"\x80\x02X\xff\xff\xff\x7fshort.", id="two GB of text"),
        pytest.param(b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"short.", id="a TB of text"),
        pytest.param(b"\x80\x05\x96" + (2**33).to_bytes(8, "little") + b"short.", id="a byte array of 8 GB"),
        pytest.param(b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"].", id="a frame of a TB"),
    ],
)
def test_a_claimed_size_is_not_allocated(tmp_path, content):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        assert read_pickle(write(tmp_path, content)) == []
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017  what does not raise is right too
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_pickle_larger_than_any_set_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_io, "MAX_PICKLE", 10)
    with pytest.raises(UserError, match="has 11 bytes, more than the 10 that are read"):
        read_pickle(write(tmp_path, b"\x80\x02]........"))


def doubled(inner, times: int):
    for _ in range(times):
        inner = type(inner)([inner, inner])
    return inner


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(doubled(["x"], 32), "nests repeated lists", id="lists"),
        pytest.param({"a": doubled(("x",), 40)}, "nests repeated lists", id="tuples"),
        pytest.param([10**5000], "an integer of 16,610 bits", id="a number that cannot be shown"),
        pytest.param({2**61 * each: "" for each in range(8, 12)}, "an integer of 65 bits", id="keys of one hash"),
        pytest.param([{1}], r"it (holds a set|names __builtin__\.set)", id="a set"),
        pytest.param([frozenset("a")], r"it (holds a set|names __builtin__\.frozenset)", id="a set that is a key"),
    ],
)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_small_pickle_cannot_take_long_to_read(tmp_path, value, message, protocol):
    with one_line_error(message):
        read_pickle(write(tmp_path, pickle.dumps(value, protocol=protocol)))


def test_a_key_of_nested_tuples_is_not_hashed(tmp_path):
    """{((...), (...)): None}, forty deep: Python itself would take for ever to make its hash."""
    content = b"\x80\x02}X\x01\x00\x00\x00x" + 40 * b"2\x86" + b"Ns."
    with pytest.raises(UserError, match="unhashable"):
        read_pickle(write(tmp_path, content))


def test_a_list_that_holds_itself_is_refused(tmp_path):
    value: list = []
    value.append(value)
    with pytest.raises(UserError, match="nests repeated lists"):
        read_pickle(write(tmp_path, pickle.dumps(value)))


@pytest.mark.parametrize("count", range(6))
def test_tuples_of_every_length_are_lists(tmp_path, count):
    value = [tuple(range(count)), (tuple("ab"[:count]), 5)]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        found = read_pickle(write(tmp_path, pickle.dumps(value, protocol=protocol)))
        assert found == [list(range(count)), [list("ab"[:count]), 5]]


def test_a_pickle_cut_short_anywhere_is_one_line(tmp_path):
    data = pickle.dumps(REFS, protocol=2)
    for length in range(len(data)):
        with one_line_error("cannot read the pickle"):
            read_pickle(write(tmp_path, data[:length]))


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02]q\x00(X\xff\xff", b"\x80\x02U\x02\xff\xfe."], ids=str)
def test_a_damaged_pickle_is_one_line(tmp_path, content):
    with one_line_error(r"cannot read the pickle .*refs\(unc\)\.p: "):
        read_pickle(write(tmp_path, content))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_json_in_the_encodings_of_data_sets_is_read(tmp_path, encoding):
    value = {"text": ["stay dry – café style"]}
    (tmp_path / "a.json").write_text(json.dumps(value, ensure_ascii=False), encoding=encoding)
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"a": 1}x', b'{"a": "\xe2', b'"\x81\xff"', b"[" * 100_000], ids=lambda each: repr(each[:9])
)
def test_damaged_json_is_one_line_that_names_the_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with one_line_error(r"cannot read the JSON .*a\.json: "):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("digits", ["9" * 400, "-" + "9" * 400, str(2**64), "9" * 5000], ids=len)
def test_integers_that_are_too_large_are_refused(tmp_path, digits):
    (tmp_path / "a.json").write_text(f'[{2**64 - 1}, {{"id": {digits}}}]')
    with one_line_error(r"cannot read the JSON .*(bits, more than 64|4300 digits)"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(f"[{2**64 - 1}, {-(2**64) + 1}]")
    assert read_json(tmp_path / "a.json") == [2**64 - 1, 1 - 2**64]
    for protocol in range(3):
        with pytest.raises(UserError, match=r"cannot read the pickle .*(bits, more than 64|4300 digits)"):
            read_pickle(write(tmp_path, pickle.dumps([2**64], protocol=protocol)))


@pytest.mark.parametrize("read", [read_json, read_pickle])
def test_a_missing_file_is_one_line(tmp_path, read):
    with pytest.raises(UserError, match=r"cannot read .*none: No such file"):
        read(tmp_path / "none")
