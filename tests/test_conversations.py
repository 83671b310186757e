from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sam4mllm.conversations import Conversations, Mixture, Rows
from sam4mllm.dialogue import read_boxes, read_label, read_prompts
from sam4mllm.errors import UserError
from sam4mllm.geometry import Box, Point, Prompt, on_mask
from sam4mllm.images import write_png
from sam4mllm.mllm.hf import HfMLLM
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.rle import Rle
from sam4mllm.samples import Sample, SampleSet
from sam4mllm.target_shards import Target
from tests.families import build

WIDTH, HEIGHT = 100, 50
MUTE = ScriptedMLLM(lambda *_: "none")
CLICKS = [Point(20.5, 20.5), Point(20.5, 24.5), Point(24.5, 20.5)]
OFF = [Point(x, 11.5, positive=False) for x in (11.5, 13.5, 15.5)]
KEPT = Prompt(Box(10, 10, 40, 40), (*CLICKS, *OFF))
PPG, PQPP, BOX = (Mixture(**{"ppg": 0, "pqpp": 0, "box": 0, kind: 1}) for kind in ("ppg", "pqpp", "box"))


def disc(left: int) -> Rle:
    """A disc of 30 pixels across, so that its box holds pixels off it."""
    rows, columns = np.indices((HEIGHT, WIDTH)) + 0.5
    return Rle.from_mask(np.hypot(columns - left - 15, rows - 25) < 15)


def sample(name: str, image: str = "0.png", masks: tuple[Rle, ...] = (disc(10),), phrase: str = "the cup") -> Sample:
    return Sample(name, image, WIDTH, HEIGHT, phrase, masks)


@pytest.fixture
def pictures(tmp_path):
    for number in range(3):
        write_png(tmp_path / f"{number}.png", np.full((HEIGHT, WIDTH, 3), 80 * number, dtype=np.uint8))
    return tmp_path


@pytest.fixture
def many(pictures) -> SampleSet:
    """Eleven samples of three pictures, a third of them without a target."""
    masks = [(disc(10),), (), (disc(60), disc(10))]
    return SampleSet(tuple(sample(f"s{n}", f"{n % 3 % 2 + n // 9}.png", masks[n % 3]) for n in range(11)), pictures)


def target(name: str, index: int = 0, kept: tuple[Prompt, ...] = (KEPT,)) -> dict[tuple[str, int], Target]:
    return {(name, index): Target(name, index, kept, (0.9,) * len(kept), 0.9)}


def replies(conversations: Conversations, index: int = 0) -> list[str]:
    return [turn.text for turn in conversations.row(MUTE, index)[1] if turn.role == "assistant"]


@pytest.mark.parametrize("per_image", [1, 2, 4, 20])
def test_an_epoch_holds_every_sample_once_in_groups_of_one_picture(many, per_image):
    conversations = Conversations(many, Rows(per_image=per_image))
    orders = []
    for epoch in range(3):
        plans = [conversations.plan(epoch * len(conversations) + place) for place in range(len(conversations))]
        assert sorted(one.id for plan in plans for one in plan.samples) == sorted(one.id for one in many)
        assert all(len({one.image for one in plan.samples}) == 1 <= len(plan.samples) <= per_image for plan in plans)
        orders.append([one.id for plan in plans for one in plan.samples])
    assert orders[0] != orders[1] != orders[2]


def test_a_row_is_the_same_for_the_same_number_whatever_was_asked_before(many):
    one, other = Conversations(many, Rows()), Conversations(many, Rows())
    backwards = {index: other.row(MUTE, index) for index in reversed(range(20))}
    for index in range(20):
        image, turns = one.row(MUTE, index)
        assert (image == backwards[index][0]).all()
        assert turns == backwards[index][1]
    third = Conversations(many, Rows(seed=1))
    assert any(third.row(MUTE, index)[1] != backwards[index][1] for index in range(20))


def test_the_ways_come_as_often_as_the_mixture_says(many):
    conversations = Conversations(many, Rows(Mixture(ppg=3, pqpp=1, box=0)))
    counts = Counter(conversations.plan(index).kind for index in range(2000))
    assert counts["ppg"] / 2000 == pytest.approx(0.75, abs=0.04)
    assert set(counts) == {"ppg", "pqpp"}


def test_ppg_says_the_targets_that_were_kept_each_of_them_some_time(pictures):
    kept = (KEPT, *(replace(KEPT, box=Box(edge, edge, 38, 38)) for edge in (11, 12)))
    conversations = Conversations(SampleSet((sample("a"),), pictures), Rows(PPG), target("a", kept=kept))
    said = {read_prompts(replies(conversations, index)[0], MUTE.dialect, frame()).prompts[0] for index in range(40)}
    assert len(said) == len(kept)
    for prompt in said:
        assert any(near(prompt, one) for one in kept)


def frame():
    return MUTE.open([np.zeros((HEIGHT, WIDTH, 3), np.uint8)]).frames[0]


def near(found: Prompt, true: Prompt, cell: float = 0.11) -> bool:
    """Whether all is said that should be, from left to right, within a cell of the dialect."""
    points = [found.points, sorted(true.points, key=lambda point: (point.x, point.y))]
    numbers = [
        [*one.box.xyxy, *(value for point in each for value in (point.x, point.y))]
        for one, each in zip((found, true), points, strict=True)
    ]
    signs = [[point.positive for point in each] for each in points]
    return signs[0] == signs[1] and bool(np.allclose(*numbers, rtol=0, atol=cell))


def test_ppg_without_targets_says_random_clicks_on_and_off_the_mask(many):
    conversations = Conversations(SampleSet((sample("a"),), many.images), Rows(PPG, positive=4, negative=2))
    first, second = (read_prompts(replies(conversations, i)[0], MUTE.dialect, frame()).prompts[0] for i in (0, 1))
    assert sorted(point.positive for point in first.points) == [False] * 2 + [True] * 4
    assert all(on_mask(disc(10).mask, point.x, point.y) is point.positive for point in (*first.points, *second.points))
    assert first != second


def test_pqpp_asks_about_points_all_over_each_box_and_the_mask_answers(pictures):
    both = SampleSet((sample("a", masks=(disc(60), disc(10))),), pictures)
    said = replies(Conversations(both, Rows(PQPP, asked=5)))
    assert len(read_boxes(said[0], MUTE.dialect, frame()).prompts) == 2
    assert len(said) == 1 + 2 * 5
    labels = [read_label(text) for n in range(20) for text in replies(Conversations(both, Rows(PQPP, seed=n)))[1:]]
    assert np.mean(np.array(labels, dtype=bool)) == pytest.approx(np.pi / 4, abs=0.1)  # a disc's share of its box


@pytest.mark.parametrize("mixture", [PPG, PQPP, BOX], ids=["ppg", "pqpp", "box"])
def test_samples_that_mean_nothing_teach_none(pictures, mixture):
    nothing = SampleSet((sample("a", masks=()),), pictures)
    assert replies(Conversations(nothing, Rows(mixture), {})) == [MUTE.dialect.none]


def test_what_ppg_cannot_use_is_counted_told_once_and_taught_in_the_other_way(pictures, caplog):
    samples = SampleSet(
        (
            sample("kept"),
            sample("lost"),
            sample("half", masks=(disc(10), disc(60))),
            sample("not searched"),
            sample("nothing", masks=()),
            sample("empty", masks=(Rle.empty(HEIGHT, WIDTH),)),
            sample("mute", phrase=" "),
        ),
        pictures,
    )
    targets = target("kept") | target("lost", kept=()) | target("half") | target("half", 1, ()) | target("mute")
    conversations = Conversations(samples, Rows(per_image=1), targets)
    assert conversations.left_out == {
        ("ppg", "no prompt redraws a mask well enough"): 2,
        ("ppg", "a mask has no target"): 1,
        ("ppg", "a mask is empty"): 1,
        ("ppg", "the phrase is empty"): 1,
        ("pqpp", "a mask is empty"): 1,
        ("pqpp", "the phrase is empty"): 1,
    }
    assert [record.message for record in caplog.records] == [
        "Of 7 samples are not used for ppg: 2 (no prompt redraws a mask well enough), 1 (a mask has no target), "
        "1 (a mask is empty), 1 (the phrase is empty).",
        "Of 7 samples are not used for pqpp: 1 (a mask is empty), 1 (the phrase is empty).",
    ]
    plans = [conversations.plan(index) for index in range(100)]
    used = {kind: {plan.samples[0].id for plan in plans if plan.kind == kind} for kind in ("ppg", "pqpp")}
    assert used == {"ppg": {"kept", "nothing"}, "pqpp": {"kept", "lost", "half", "not searched", "nothing"}}
    for index in range(len(conversations)):
        conversations.row(MUTE, index)


def test_a_sample_that_no_way_can_use_is_not_in_the_epoch(pictures):
    samples = SampleSet((sample("kept"), sample("lost")), pictures)
    conversations = Conversations(samples, Rows(PPG, per_image=1), target("kept") | target("lost", kept=()))
    assert len(conversations) == 1


@pytest.mark.parametrize(
    ("names", "rows", "targets", "says"),
    [
        pytest.param("a", Rows(), target("b"), "the targets are of other samples", id="no id in common"),
        pytest.param("a", Rows(), {}, "there are no targets", id="no targets at all"),
        pytest.param(
            "a", Rows(positive=2), target("a"), "ask for 2 positive points, and the targets have 3", id="more"
        ),
        pytest.param(
            "a", Rows(negative=4), target("a"), "ask for 4 negative points, and the targets have 3", id="less"
        ),
        pytest.param("a", Rows(), target("a", kept=()), "no sample can be used for ppg: 1 .no prompt", id="none kept"),
        pytest.param("", Rows(), None, "no sample can be used for ppg: there is none", id="no samples"),
    ],
)
def test_what_cannot_be_taught_is_refused(pictures, names, rows, targets, says):
    with pytest.raises(UserError, match=says):
        Conversations(SampleSet(tuple(map(sample, names)), pictures), rows, targets)


def test_targets_that_no_way_needs_do_not_matter(pictures):
    assert len(Conversations(SampleSet((sample("a"),), pictures), Rows(PQPP), target("b"))) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda: Mixture(0, 0, 0), "one of them is above 0", id="no weight"),
        pytest.param(lambda: Mixture(-1, 2, 0), "weights are 0 or more", id="weight below 0"),
        pytest.param(lambda: Mixture(float("nan")), "weights are 0 or more", id="no number"),
        pytest.param(lambda: Rows(positive=-1), "0 or more points", id="points below 0"),
        pytest.param(lambda: Rows(seed=-1), "a seed of 0 or more", id="seed below 0"),
        pytest.param(lambda: Rows(per_image=0), "1 or more expressions", id="no expressions"),
    ],
)
def test_rows_that_are_none_are_refused(make, says):
    with pytest.raises(UserError, match=says):
        make()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda path: path.unlink(), "no such file", id="missing"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot read", id="cut short"),
        pytest.param(
            lambda path: write_png(path, np.zeros((20, 30, 3), np.uint8)),
            "2.png is 30 x 20 pixels, the sample says 100 x 50",
            id="another size",
        ),
    ],
)
def test_pictures_are_checked_before_they_are_needed_and_only_those_that_are(pictures, spoil, says):
    samples = SampleSet(tuple(sample(f"s{n}", f"{n}.png") for n in range(3)), pictures)
    conversations = Conversations(samples, Rows())
    conversations.check_pictures(1000)
    spoil(pictures / "2.png")
    with pytest.raises(UserError, match=says):
        conversations.check_pictures(1000)
    late = next(index for index in range(3) if conversations.plan(index).samples[0].image == "2.png")
    conversations.check_pictures(late)
    with pytest.raises(UserError, match=says):
        conversations.row(MUTE, late)


@pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"], ids=["pads to a square", "pixels of the resized picture"])
def test_places_are_those_that_the_model_would_mean_when_asked(pictures, tmp_path, family):
    mllm = HfMLLM.load(build(family, tmp_path / "model"), device="cpu")
    conversations = Conversations(SampleSet((sample("a"),), pictures), Rows(PPG), target("a"))
    image, turns = conversations.row(mllm, 0)
    chat = mllm.open([image])
    assert chat.frames[0].canvas != (WIDTH, HEIGHT)
    [found] = read_prompts(turns[1].text, mllm.dialect, chat.frames[0]).prompts
    assert near(found, KEPT, cell=1.0)  # of the resized picture, which is the larger
