import json
from dataclasses import replace
from pathlib import Path

import pytest

from sam4mllm.data.conversations import Conversation
from sam4mllm.data.samples import Sample
from sam4mllm.data_prep.checks.official import OFFICIAL
from sam4mllm.data_prep.raw_dataset import RawDataset
from sam4mllm.data_prep.report import format_report, make_report, mismatches, read_report, write_report
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.language.messages import Turn

MASK, OTHER = Rle.from_runs([0, 4, 8], 4, 3), Rle.from_runs([8, 4], 4, 3)
CAT = Sample("a", "1.jpg", 3, 4, "the cat", (MASK,), source="toy", split="val")
TALK = Conversation("t", "1.jpg", 3, 4, (Turn("user", "?"), Turn("assistant", "!")), source="toy", split="train")
READING = RawDataset("toy", Path("nowhere"))


def noticed(reading: RawDataset) -> dict[str, dict]:
    return make_report(reading, reading, True)["noticed"]


@pytest.mark.parametrize(
    ("others", "names"),
    [
        pytest.param([replace(CAT, id="b")], ["b"], id="the same"),
        pytest.param([replace(CAT, id="b"), replace(CAT, id="c")], ["b", "c"], id="thrice"),
        pytest.param([replace(CAT, id="b", phrase="a cat")], [], id="other words"),
        pytest.param([replace(CAT, id="b", image="2.jpg")], [], id="another image"),
        pytest.param([replace(CAT, id="b", masks=(OTHER,))], [], id="another mask"),
        pytest.param([replace(CAT, id="b", masks=(MASK, OTHER))], [], id="one more mask"),
        pytest.param([replace(CAT, id="b", raw="The cat!")], ["b"], id="other raw words"),
    ],
)
def test_sentences_that_come_twice_are_counted(others, names):
    oddities = noticed(replace(READING, splits={"val": [CAT, *others]}))
    twice = oddities.get("sentences that come twice, with the same image and masks", {"first": []})
    assert twice["first"] == names


def test_the_same_sentence_in_two_splits_is_not_twice():
    oddities = noticed(replace(READING, splits={"val": [CAT], "testB": [replace(CAT, id="b", split="testB")]}))
    assert not any("twice" in what for what in oddities)


@pytest.mark.parametrize(
    ("masks", "count"),
    [((MASK,), 0), ((), 0), ((Rle.empty(4, 3),), 1), ((MASK, Rle.empty(4, 3)), 1)],
    ids=["a mask", "no target", "empty", "one of two empty"],
)
def test_empty_masks_are_counted_apart_from_missing_targets(masks, count):
    reading = replace(READING, splits={"val": [replace(CAT, masks=masks)]})
    report = make_report(reading, reading, True)
    oddities = report["noticed"].get("sentences of which a mask has no pixel", {"count": 0})
    assert oddities["count"] == count
    assert report["splits"]["val"]["without_target"] == (not masks)


def test_missing_images_are_counted_once_each_and_the_first_few_named(tmp_path):
    (tmp_path / "3.jpg").touch()
    samples = [replace(CAT, id=str(number), image=f"{number % 9}.jpg") for number in range(18)]
    talks = {"train": [TALK, replace(TALK, id="u", image="said.jpg")]}
    oddities = noticed(replace(READING, images=tmp_path, splits={"val": samples}, conversations=talks))
    assert oddities["missing images"] == {
        "count": 9,
        "first": [f"{number}.jpg" for number in (0, 1, 2, 4, 5)],
    }


def test_sentences_without_a_word_are_counted():
    oddities = noticed(replace(READING, splits={"val": [CAT, replace(CAT, id="b", phrase=" ")]}))
    assert oddities["sentences without a word"] == {"count": 1, "first": ["b"]}


def test_oddities_that_a_reader_noticed_are_in_the_report():
    oddities = noticed(replace(READING, noticed={"odd": ["x", "y"], "never": []}))
    assert oddities == {"odd": {"count": 2, "first": ["x", "y"]}}


def counted(refs: int, sentences: int, images: int) -> dict:
    return {"refs": refs, "sentences": sentences, "pictures": images}


RIGHT = {"val": counted(3811, 10834, 1500), "testA": counted(1975, 5657, 750), "testB": counted(1810, 5095, 750)}
WHOLE = {"train": counted(42404, 120624, 16994), **RIGHT}


@pytest.mark.parametrize(
    ("source", "split_by", "splits", "expected"),
    [
        pytest.param("refcoco", "unc", WHOLE, [], id="the official counts"),
        pytest.param("refcoco", "unc", RIGHT, ["split train is missing"], id="a split is missing"),
        pytest.param(
            "refcoco", "unc", {**WHOLE, "val": counted(3811, 10833, 1500)}, ["val has 10,833 sentences"], id="one less"
        ),
        pytest.param(
            "refcoco", "unc", {**WHOLE, "test": counted(1, 1, 1)}, ["split test has no official"], id="one more"
        ),
        pytest.param(
            "refcoco+", "unc", {"val": RIGHT["val"]}, ["split train is missing", "val has 3,811 refs"], id="another"
        ),
        pytest.param("refcocog", "google", {}, ["split train is missing", "split val is missing"], id="another split"),
        pytest.param("toy", "", RIGHT, [], id="a set without official counts"),
    ],
)
def test_counts_are_compared_with_the_official_ones(source, split_by, splits, expected):
    oddities = mismatches({"source": source, "split_by": split_by, "splits": splits})
    assert all(any(each in line for line in oddities) for each in expected)
    assert bool(oddities) == bool(expected)


def test_official_totals_are_the_published_ones():
    """RefCOCO 142,210 and RefCOCO+ 141,564 sentences, RefCOCOg-umd 95,010 in its file; and their images."""
    for name, sentences, images in (
        ("refcoco-unc", 142210, 19994),
        ("refcoco+-unc", 141564, 19992),
        ("refcocog-umd", 95010, 25799),
    ):
        assert sum(counts.sentences or 0 for counts in OFFICIAL[name].values()) == sentences
        assert sum(counts.pictures or 0 for counts in OFFICIAL[name].values()) == images


def test_official_refs_sum_to_the_files_of_the_authors():
    """RefCOCO's 50,000, RefCOCO+'s 49,856 and RefCOCOg's 49,822 refs, however they are split; google's test is not out.

    gRefCOCO's: as its makers' reader counts them.
    """
    totals = {name: sum(counts.refs or 0 for counts in splits.values()) for name, splits in OFFICIAL.items()}
    assert totals == {
        "refcoco-unc": 50000,
        "refcoco-google": 50000,
        "refcoco+-unc": 49856,
        "refcocog-umd": 49822,
        "refcocog-google": 49822,
        "grefcoco-unc": 97977,
        "reasonseg": 0,
    }


@pytest.mark.parametrize(
    ("name", "what", "expected"),
    [
        ("refcoco-google", "pictures", {"train": 19213, "val": 4559, "test": 4527}),
        ("refcocog-google", "pictures", {"train": 24698, "val": 4650}),
        ("grefcoco-unc", "sentences", {"train": 209344, "val": None, "testA": None, "testB": None}),
        ("reasonseg", "pictures", {"train": 239, "val": 200, "test": 779}),
        ("reasonseg", "sentences", {"train": None, "val": 200, "test": 779}),
    ],
)
def test_official_counts_without_a_published_total_are_those_of_the_authors(name, what, expected):
    assert {split: getattr(counts, what) for split, counts in OFFICIAL[name].items()} == expected


def test_a_report_is_read_as_written(tmp_path):
    reading = RawDataset("refcoco", Path("nowhere"), {"val": [CAT]}, "unc", {"val": 1}, {"train": [TALK]})
    report = make_report(reading, reading, True)
    assert report["splits"]["val"]["official"] == {"refs": 3811, "sentences": 10834, "pictures": 1500}
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_report(report, folder)
        assert read_report(folder) == report
    assert (tmp_path / "one" / "report.json").read_bytes() == (tmp_path / "two" / "report.json").read_bytes()


@pytest.mark.parametrize("content", ["", "{}", "[]", "5"])
def test_a_damaged_report_is_one_line(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(UserError, match=r"report\.json is damaged: remove it"):
        read_report(tmp_path)


def test_removed_rows_are_reported():
    samples = [CAT, replace(CAT, id="b", image="2.jpg"), replace(CAT, id="c", image="2.jpg")]
    reading = replace(READING, splits={"train": samples}, conversations={"train": [TALK]})
    kept = replace(READING, splits={"train": samples[:1]}, conversations={"train": []})
    text = format_report(make_report(reading, kept, True))
    assert "train: removed 2 sentences: their 1 images are in an evaluation split" in text
    assert "train: removed 1 conversations: their 1 images are in an evaluation split" in text
    assert "leaks are kept" not in text
    assert "leaks are kept" in format_report(make_report(reading, reading, False))


def test_a_report_holds_no_local_path(tmp_path):
    reading = replace(READING, images=tmp_path, splits={"val": [CAT]})
    assert str(tmp_path) not in json.dumps(make_report(reading, reading, True))
