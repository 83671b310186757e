from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam4mllm.data.conversations import Conversation, ConversationSet, write_conversations
from sam4mllm.data.samples import SampleSet, write_samples
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.language.messages import Turn
from sam4mllm.targets.record import write_targets
from sam4mllm.training.dataset.corpus import LeftOut, LoadedSource, check_files, corpus, read_sources
from sam4mllm.training.dataset.mixture import KINDS, DataSource, Mixture, Rows
from tests.teaching import BOX, HEIGHT, PPG, PQPP, WIDTH, disc, sample, target

NOWHERE = Path("nowhere")
TALK = Conversation("t", "0.png", WIDTH, HEIGHT, (Turn("user", "What?"), Turn("assistant", "That.")))


def part(*samples, targets=None, name="set") -> LoadedSource:
    return LoadedSource(name, SampleSet(samples, NOWHERE), targets)


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


def test_items_that_one_kind_cannot_use_are_reported_once_and_used_for_the_other_kinds(caplog):
    training_data = corpus(
        [part(*MIXED, targets=FOUND), LoadedSource("talks", ConversationSet((TALK,), NOWHERE))], Rows()
    )
    assert set(training_data.left_out) == {
        LeftOut("set", "ppg", NO_PROMPT, ("lost", "half")),
        LeftOut("set", "ppg", NO_TARGET, ("not searched",)),
        LeftOut("set", "ppg", "a mask is empty", ("empty",)),
        LeftOut("set", "ppg", "the phrase is empty", ("mute",)),
        LeftOut("set", "pqpp", "a mask is empty", ("empty",)),
        LeftOut("set", "pqpp", "the phrase is empty", ("mute",)),
    }
    assert caplog.messages == [
        f"set: not used for ppg, of 7 samples: 2 ({NO_PROMPT}: lost, half), 1 ({NO_TARGET}: not searched), "
        "1 (a mask is empty: empty), 1 (the phrase is empty: mute).",
        "set: not used for pqpp, of 7 samples: 1 (a mask is empty: empty), 1 (the phrase is empty: mute).",
    ]
    used = [{training_data.items[at].id for at in np.flatnonzero(row)} for row in training_data.uses]
    pqpp = {"kept", "lost", "half", "not searched", "nothing"}
    assert dict(zip(KINDS, used, strict=True)) == {
        **{"ppg": {"kept", "nothing"}, "pqpp": pqpp, "listed": set(), "box": set(), "talk": {"t"}}
    }


def test_a_warning_names_the_first_ids_only(caplog):
    corpus([part(sample("a"), *(sample(f"m{n}", phrase="") for n in range(9)))], Rows(BOX))
    assert caplog.messages == ["set: not used for box, of 10 samples: 9 (the phrase is empty: m0, m1, m2 ...)."]


def test_left_out_items_are_counted_per_source():
    parts = [part(*MIXED, name="one"), part(*MIXED, sample("mute too", phrase=""), name="two")]
    left_out = {(entry.source, entry.reason): entry.ids for entry in corpus(parts, Rows(PQPP)).left_out}
    mask, phrase = "a mask is empty", "the phrase is empty"
    assert left_out == {
        **{("one", mask): ("empty",), ("one", phrase): ("mute",)},
        **{("two", mask): ("empty",), ("two", phrase): ("mute", "mute too")},
    }


def test_images_of_different_sources_have_different_numbers():
    training_data = corpus([part(sample("a"), sample("b"), name="one"), part(sample("a"), name="two")], Rows(BOX))
    assert training_data.image.tolist() == [0, 0, 1]
    assert [training_data.part(item).name for item in range(3)] == ["one", "one", "two"]


def test_barred_items_are_left_out_and_a_kind_needs_at_least_one_item(caplog):
    training_data = corpus([part(sample("a"), sample("b"))], Rows(Mixture(ppg=1, pqpp=0, box=1)))
    first = np.zeros((len(KINDS), 2), dtype=bool)
    first[0, 1] = True
    reduced = training_data.without(first, "longer than 9 tokens")
    assert reduced.left_out == (LeftOut("set", "ppg", "longer than 9 tokens", ("b",)),)
    assert caplog.messages == ["set: not used for ppg, of 2 samples: 1 (longer than 9 tokens: b)."]
    assert (reduced.uses.sum(), training_data.uses.sum()) == (3, 4)
    first[0] = True
    with pytest.raises(UserError, match=r"no sample can be used for ppg: 2 \(longer than 9 tokens: a, b\)"):
        training_data.without(first, "longer than 9 tokens")


@pytest.mark.parametrize(
    ("names", "rows", "targets", "message"),
    [
        ("a", Rows(), target("b"), "the targets belong to other samples: none of their 1 ids is in set"),
        ("a", Rows(), {}, "no targets for set"),
        ("a", Rows(positive=2), target("a"), "ask for 2 positive points, but the targets of set have up to 3"),
        ("a", Rows(), target("a", kept=()), "no sample can be used for ppg: 1 .no prompt"),
        ("", Rows(), None, "no sample can be used for ppg: there is none"),
    ],
)
def test_targets_and_samples_that_do_not_fit_are_refused(names, rows, targets, message):
    with pytest.raises(UserError, match=message):
        corpus([part(*map(sample, names), targets=targets)], rows)


def test_targets_with_fewer_points_than_the_rows_ask_for_give_a_warning(caplog):
    assert len(corpus([part(sample("a"), targets=target("b"))], Rows(PQPP)).items) == 1, "PQPP needs no targets"
    assert len(corpus([part(sample("a"), targets=target("a"))], Rows(negative=4)).items) == 1
    assert caplog.messages == ["the rows ask for 4 negative points, but the targets of set have up to 3."]


def test_samples_that_use_training_images_are_listed(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to("images")
    training_samples = [sample("a", "0.png"), sample("b", "1.png"), sample("mute", "2.png", phrase="")]
    parts = [
        LoadedSource("set", SampleSet(tuple(training_samples), tmp_path / "images")),
        LoadedSource("talks", ConversationSet((TALK,), NOWHERE)),
    ]
    held_out = tuple(sample(f"v{n}", f"{n}.png") for n in range(5))
    training_data = corpus(parts, Rows(BOX))
    assert training_data.ids_with_training_images(SampleSet(held_out, tmp_path / "link")) == ("v0", "v1")
    assert training_data.ids_with_training_images(SampleSet(held_out, NOWHERE)) == ("v0",)
    assert training_data.ids_with_training_images(SampleSet(held_out, tmp_path)) == ()


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        pytest.param(("What?", "That.", "And?", " "), "a reply is empty", id="reply"),
        pytest.param(("", "That."), "a question is empty", id="question"),
    ],
)
def test_conversations_with_an_empty_turn_are_left_out(turns, reason, caplog):
    turn_list = tuple(Turn("assistant" if at % 2 else "user", text) for at, text in enumerate(turns))
    talks = ConversationSet((TALK, replace(TALK, id="mute", turns=turn_list)), NOWHERE)
    training_data = corpus([LoadedSource("talks", talks)], Rows(PPG))
    assert training_data.uses[-1].tolist() == [True, False]
    assert caplog.messages == [f"talks: not used for talk, of 2 talks: 1 ({reason}: mute)."]


def test_a_corpus_may_have_conversations_only_but_a_source_of_them_must_not_be_empty():
    assert corpus([LoadedSource("talks", ConversationSet((TALK,), NOWHERE))], Rows(PPG)).uses[-1].all()
    with pytest.raises(UserError, match="no talk can be used for talk: there is none"):
        corpus([LoadedSource("talks", ConversationSet((), NOWHERE)), part(sample("a"))], Rows(BOX))


def test_sources_are_read_back_as_written(tmp_path):
    write_samples([sample("a")], tmp_path / "set", tmp_path / "images")
    write_targets(target("a").values(), tmp_path / "targets", {})
    write_conversations([TALK], tmp_path / "talks", tmp_path / "images")
    names = {name: str(tmp_path / name) for name in ("set", "targets", "talks")}
    first, second = read_sources(
        [
            DataSource(samples=names["set"], targets=names["targets"], weight=2),
            DataSource(samples="nowhere", weight=0),
            DataSource(talks=names["talks"], images="elsewhere", weight=0.2),
        ]
    )
    assert (first.name, first.weight, [*first.rows], first.targets) == (names["set"], 2, [sample("a")], target("a"))
    assert (second.name, second.weight, list(second.rows), second.targets) == (names["talks"], 0.2, [TALK], None)
    assert second.rows.images == Path("elsewhere")
    with pytest.raises(UserError, match="no source with a weight above 0"):
        read_sources([DataSource(samples=names["set"], weight=0)])


def test_a_missing_image_file_is_reported_with_its_sample_or_conversation(tmp_path):
    (tmp_path / "0.png").touch()
    complete = corpus([LoadedSource("set", SampleSet((sample("a"),), tmp_path))], Rows(BOX))
    check_files(complete)
    for row, message in ((sample("b", "1.png"), "sample b: no such file"), (TALK, "talk t: no such file")):
        kind, folder = (ConversationSet, NOWHERE) if row is TALK else (SampleSet, tmp_path)
        with pytest.raises(UserError, match=message):
            check_files(corpus([*complete.parts, LoadedSource("more", kind((row,), folder))], Rows(BOX)))
