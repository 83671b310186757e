from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam4mllm.data.conversations import Talk, TalkSet, write_talks
from sam4mllm.data.samples import SampleSet, write_samples
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.language.messages import Turn
from sam4mllm.targets.record import write_targets
from sam4mllm.training.dataset.corpus import LeftOut, Part, check_files, corpus, read_sources
from sam4mllm.training.dataset.mixture import KINDS, Mixture, Rows, Source
from tests.teaching import BOX, HEIGHT, PPG, PQPP, WIDTH, disc, sample, target

NOWHERE = Path("nowhere")
TALK = Talk("t", "0.png", WIDTH, HEIGHT, (Turn("user", "What?"), Turn("assistant", "That.")))


def part(*samples, targets=None, name="set") -> Part:
    return Part(name, SampleSet(samples, NOWHERE), targets)


MIXED = (
    sample("kept"),
    sample("lost"),
    sample("half", masks=(disc(10), disc(60))),
    sample("not searched"),
    sample("nothing", masks=()),
    sample("empty", masks=(Rle.empty(HEIGHT, WIDTH),)),
    sample("mute", phrase=" "),
)
FOUND = target("kept") | target("lost", kept=()) | target("half") | target("half", 1, ()) | target("mute")
NO_PROMPT, NO_TARGET = "no prompt redraws a mask well enough", "a mask has no target"


def test_what_a_way_cannot_use_is_counted_named_told_once_and_used_in_the_other_ways(caplog):
    found = corpus([part(*MIXED, targets=FOUND), Part("talks", TalkSet((TALK,), NOWHERE))], Rows())
    assert set(found.left_out) == {
        LeftOut("set", "ppg", NO_PROMPT, ("lost", "half")),
        LeftOut("set", "ppg", NO_TARGET, ("not searched",)),
        LeftOut("set", "ppg", "a mask is empty", ("empty",)),
        LeftOut("set", "ppg", "the phrase is empty", ("mute",)),
        LeftOut("set", "pqpp", "a mask is empty", ("empty",)),
        LeftOut("set", "pqpp", "the phrase is empty", ("mute",)),
    }
    assert [record.message for record in caplog.records] == [
        f"Of the 7 samples of set are not used for ppg: 2 ({NO_PROMPT}: lost, half), 1 ({NO_TARGET}: not searched), "
        "1 (a mask is empty: empty), 1 (the phrase is empty: mute).",
        "Of the 7 samples of set are not used for pqpp: 1 (a mask is empty: empty), 1 (the phrase is empty: mute).",
    ]
    used = {kind: {found.items[at].id for at in np.flatnonzero(row)} for kind, row in zip(KINDS, found.uses)}  # noqa: B905
    assert used == {
        "ppg": {"kept", "nothing"},
        "pqpp": {"kept", "lost", "half", "not searched", "nothing"},
        "listed": set(),
        "box": set(),
        "talk": {"t"},
    }


def test_of_many_ids_the_first_are_told(caplog):
    corpus([part(sample("a"), *(sample(f"m{n}", phrase="") for n in range(9)))], Rows(BOX))
    assert caplog.messages == [
        "Of the 10 samples of set are not used for box: 9 (the phrase is empty: m0, m1, m2 ...)."
    ]


def test_what_is_left_out_is_counted_for_each_source():
    found = corpus([part(*MIXED, name="one"), part(*MIXED, sample("mute too", phrase=""), name="two")], Rows(PQPP))
    counts = Counter({(one.source, one.reason): len(one.ids) for one in found.left_out})
    assert counts == {
        ("one", "a mask is empty"): 1,
        ("one", "the phrase is empty"): 1,
        ("two", "a mask is empty"): 1,
        ("two", "the phrase is empty"): 2,
    }


def test_pictures_of_two_sources_are_never_one():
    found = corpus([part(sample("a"), sample("b"), name="one"), part(sample("a"), name="two")], Rows(BOX))
    assert found.picture.tolist() == [0, 0, 1]
    assert [found.part(item).name for item in range(3)] == ["one", "one", "two"]


def test_what_is_barred_later_is_left_out_and_a_way_needs_some(caplog):
    found = corpus([part(sample("a"), sample("b"))], Rows(Mixture(ppg=1, pqpp=0, box=1)))
    first = np.zeros((len(KINDS), 2), dtype=bool)
    first[0, 1] = True
    less = found.without(first, "longer than 9 tokens")
    assert less.left_out == (LeftOut("set", "ppg", "longer than 9 tokens", ("b",)),)
    assert caplog.messages == ["Of the 2 samples of set are not used for ppg: 1 (longer than 9 tokens: b)."]
    assert (less.uses.sum(), found.uses.sum()) == (3, 4)
    first[0] = True
    with pytest.raises(UserError, match=r"no sample can be used for ppg: 2 \(longer than 9 tokens: a, b\)"):
        found.without(first, "longer than 9 tokens")


@pytest.mark.parametrize(
    ("names", "rows", "targets", "says"),
    [
        pytest.param("a", Rows(), target("b"), "the targets are of other samples: no id of set", id="no id in common"),
        pytest.param("a", Rows(), {}, "there are no targets for set", id="no targets at all"),
        pytest.param(
            "a", Rows(positive=2), target("a"), "ask for 2 positive points, and the targets of set have 3", id="more"
        ),
        pytest.param("a", Rows(), target("a", kept=()), "no sample can be used for ppg: 1 .no prompt", id="none kept"),
        pytest.param("", Rows(), None, "no sample can be used for ppg: there is none", id="no samples"),
    ],
)
def test_what_cannot_be_taught_is_refused(names, rows, targets, says):
    with pytest.raises(UserError, match=says):
        corpus([part(*map(sample, names), targets=targets)], rows)


def test_targets_of_fewer_points_than_are_asked_for_are_told(caplog):
    assert len(corpus([part(sample("a"), targets=target("a"))], Rows(negative=4)).items) == 1
    assert caplog.messages == ["the rows ask for 4 negative points, and the targets of set have 3 at the most."]


def test_samples_of_pictures_that_are_taught_from_are_known(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to("images")
    taught = [sample("a", "0.png"), sample("b", "1.png"), sample("mute", "2.png", phrase="")]
    parts = [Part("set", SampleSet(tuple(taught), tmp_path / "images")), Part("talks", TalkSet((TALK,), NOWHERE))]
    held_out = tuple(sample(f"v{n}", f"{n}.png") for n in range(5))
    found = corpus(parts, Rows(BOX))
    assert found.known(SampleSet(held_out, tmp_path / "link")) == ("v0", "v1")
    assert found.known(SampleSet(held_out, NOWHERE)) == ("v0",)
    assert found.known(SampleSet(held_out, tmp_path)) == ()


def test_targets_that_no_way_needs_do_not_matter():
    assert len(corpus([part(sample("a"), targets=target("b"))], Rows(PQPP)).items) == 1


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        pytest.param(("What?", "That.", "And?", " "), "a reply is empty", id="reply"),
        pytest.param(("", "That."), "a question is empty", id="question"),
    ],
)
def test_talks_in_which_nothing_is_said_are_left_out_and_named(turns, reason, caplog):
    said = tuple(Turn("assistant" if at % 2 else "user", text) for at, text in enumerate(turns))
    talks = TalkSet((TALK, replace(TALK, id="mute", turns=said)), NOWHERE)
    found = corpus([Part("talks", talks)], Rows(PPG))
    assert found.uses[-1].tolist() == [True, False]
    assert [record.message for record in caplog.records] == [
        f"Of the 2 talks of talks are not used for talk: 1 ({reason}: mute)."
    ]


def test_talks_alone_are_enough_and_no_talks_are_not():
    assert corpus([Part("talks", TalkSet((TALK,), NOWHERE))], Rows(PPG)).uses[-1].all()
    with pytest.raises(UserError, match="no talk can be used for talk: there is none"):
        corpus([Part("talks", TalkSet((), NOWHERE)), part(sample("a"))], Rows(BOX))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param({}, "a folder of samples or one of talks", id="neither"),
        pytest.param({"samples": "a", "talks": "b"}, "a folder of samples or one of talks, got a and b", id="both"),
        pytest.param({"talks": "a", "targets": "b"}, "talks have no targets", id="targets of talks"),
        pytest.param({"talks": "a", "weight": -1}, "weight is 0 or more, got -1", id="weight"),
        pytest.param({"talks": "a", "weight": float("nan")}, "weight is 0 or more, got nan", id="no number"),
    ],
)
def test_a_source_that_is_none_is_refused(words, says):
    with pytest.raises(UserError, match=says):
        Source(**words)


def test_sources_are_read_as_they_were_written(tmp_path):
    write_samples([sample("a")], tmp_path / "set", tmp_path / "images")
    write_targets(target("a").values(), tmp_path / "targets", {})
    write_talks([TALK], tmp_path / "talks", tmp_path / "images")
    names = {name: str(tmp_path / name) for name in ("set", "targets", "talks")}
    one, two = read_sources(
        [
            Source(samples=names["set"], targets=names["targets"], weight=2),
            Source(samples="nowhere", weight=0),
            Source(talks=names["talks"], images="elsewhere", weight=0.2),
        ]
    )
    assert (one.name, one.weight, list(one.rows), one.targets) == (names["set"], 2, [sample("a")], target("a"))
    assert (two.name, two.weight, list(two.rows), two.targets) == (names["talks"], 0.2, [TALK], None)
    assert two.rows.images == Path("elsewhere")
    with pytest.raises(UserError, match="no source whose weight is above 0"):
        read_sources([Source(samples=names["set"], weight=0)])


def test_a_picture_whose_file_is_missing_is_named_with_what_is_about_it(tmp_path):
    (tmp_path / "0.png").touch()
    there = corpus([Part("set", SampleSet((sample("a"),), tmp_path))], Rows(BOX))
    check_files(there)
    for row, says in ((sample("b", "1.png"), "sample b: no such file"), (TALK, "talk t: no such file")):
        kind, folder = (TalkSet, NOWHERE) if row is TALK else (SampleSet, tmp_path)
        with pytest.raises(UserError, match=says):
            check_files(corpus([*there.parts, Part("more", kind((row,), folder))], Rows(BOX)))
