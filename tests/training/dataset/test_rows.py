from dataclasses import replace
from itertools import count
from operator import attrgetter

import numpy as np
import pytest

from sam4mllm.data.conversations import Conversation, ConversationSet
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Prompt, is_on_mask
from sam4mllm.images.files import write_png
from sam4mllm.language.messages import Turn
from sam4mllm.language.templates import parse_boxes, parse_label, parse_labels, parse_prompts
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.training.dataset.corpus import LoadedSource, corpus
from sam4mllm.training.dataset.mixture import Mixture, PointSampling, Rows
from sam4mllm.training.dataset.rows import TrainingRows
from tests.families import build
from tests.teaching import BOX, HEIGHT, KEPT, LISTED, MUTE, PPG, PQPP, WIDTH, Words, disc, sample, target


@pytest.fixture
def pictures(tmp_path):
    for number in range(3):
        write_png(tmp_path / f"{number}.png", np.full((HEIGHT, WIDTH, 3), 80 * number, dtype=np.uint8))
    return tmp_path


@pytest.fixture
def many(pictures) -> SampleSet:
    """Eleven samples of three images, a third of them without a mask."""
    masks = [(disc(10),), (), (disc(60), disc(10))]
    return SampleSet(tuple(sample(f"s{n}", f"{n % 3 % 2 + n // 9}.png", masks[n % 3]) for n in range(11)), pictures)


def talks(pictures, count: int = 4) -> ConversationSet:
    turns = (Turn("user", "What is it?"), Turn("assistant", "A cup."), Turn("user", "Why?"), Turn("assistant", "So."))
    return ConversationSet(
        tuple(Conversation(f"t{n}", f"{n % 2}.png", WIDTH, HEIGHT, turns[: 2 + 2 * (n % 2)]) for n in range(count)),
        pictures,
    )


def rows_of(samples, rows: Rows = Rows(), targets=None, lengths=Words(), mllm=MUTE) -> TrainingRows:  # noqa: B008
    return TrainingRows(corpus([LoadedSource("set", samples, targets)], rows), rows, mllm, lengths)


def replies(conversations: TrainingRows, index: int = 0) -> list[str]:
    return [turn.text for turn in conversations.turns(index) if turn.role == "assistant"]


def frame():
    return MUTE.open([np.zeros((HEIGHT, WIDTH, 3), np.uint8)]).frames[0]


def near(prompt: Prompt, expected: Prompt, cell: float = 0.11) -> bool:
    """Whether a prompt has the expected values, with its points from left to right, within a cell of the dialect."""
    ordered = replace(expected, points=tuple(sorted(expected.points, key=attrgetter("x", "y"))))
    values, expected_values = (
        [*item.box.xyxy, *(value for point in item.points for value in (point.x, point.y, point.positive))]
        for item in (prompt, ordered)
    )
    return bool(np.allclose(values, expected_values, rtol=0, atol=cell))


def test_a_row_depends_only_on_its_number(many):
    rows = Rows(tokens=150)
    first, second, other_seed = (rows_of(many, settings) for settings in (rows, rows, replace(rows, seed=1)))
    backwards = {index: second.row(index) for index in reversed(range(40))}
    for index in range(40):
        image, turns = first.row(index)
        assert (image == backwards[index][0]).all()
        assert turns == backwards[index][1] == first.turns(index)
    assert any(other_seed.turns(index) != backwards[index][1] for index in range(40))


def test_row_numbers_continue_from_epoch_to_epoch(many):
    rows = Rows(asked=PointSampling(mean=5), tokens=150)
    conversations = rows_of(many, rows)
    numbers = count()
    for epoch in range(4):
        plans = [conversations.plan(next(numbers)) for _ in range(len(conversations.epoch(epoch)))]
        assert sorted(item.id for plan in plans for item in plan.items) == sorted(sample.id for sample in many)


def test_turns_are_made_without_reading_images(many):
    conversations = rows_of(replace(many, images=many.images / "nowhere"))
    assert all(conversations.turns(index) for index in range(len(conversations)))


def test_a_row_has_one_image_and_one_kind(many):
    conversations = rows_of(many, Rows(Mixture(ppg=1, pqpp=0, box=1)))
    for index in range(2 * len(conversations)):
        plan, turns = conversations.plan(index), conversations.turns(index)
        assert len({item.image for item in plan.items}) == 1
        assert len(turns) == 2 * len(plan.items)
        assert len({"inside" in turn.text for turn in turns[::2]}) == 1


def test_ppg_replies_contain_each_prompt_of_a_target_in_some_row(pictures):
    kept = (KEPT, *(replace(KEPT, box=Box(edge, edge, 38, 38)) for edge in (11, 12)))
    conversations = rows_of(SampleSet((sample("a"),), pictures), Rows(PPG), target("a", kept=kept))
    texts = [replies(conversations, index)[0] for index in range(40)]
    prompts = {parse_prompts(text, MUTE.dialect, frame()).prompts[0] for text in texts}
    assert len(prompts) == len(kept)
    assert all(any(near(prompt, target_prompt) for target_prompt in kept) for prompt in prompts)


def test_ppg_replies_without_targets_contain_random_clicks_on_and_off_the_mask(many):
    conversations = rows_of(SampleSet((sample("a"),), many.images), Rows(PPG, positive=4, negative=2))
    first, second = (parse_prompts(replies(conversations, i)[0], MUTE.dialect, frame()).prompts[0] for i in (0, 1))
    assert sorted(point.positive for point in first.points) == [False] * 2 + [True] * 4
    points = (*first.points, *second.points)
    assert all(is_on_mask(disc(10).mask, point.x, point.y) is point.positive for point in points)
    assert first != second


@pytest.mark.parametrize(("way", "turns"), [(PQPP, 1 + 2 * 5), (LISTED, 1 + 2)], ids=["one a turn", "listed"])
def test_pqpp_points_cover_each_box_and_their_labels_come_from_the_mask(pictures, way, turns):
    both = SampleSet((sample("a", masks=(disc(60), disc(10))),), pictures)
    rows = Rows(way, asked=PointSampling(mean=5, deviation=0, single=0, hard=0))
    texts = replies(rows_of(both, rows))
    assert len(parse_boxes(texts[0], MUTE.dialect, frame()).prompts) == 2
    assert len(texts) == turns
    texts = [text for seed in range(20) for text in replies(rows_of(both, replace(rows, seed=seed)))[1:]]
    labels = [label for text in texts for label in parse_labels(text, 10 // (turns - 1))]
    assert len(labels) == 200
    assert np.mean(np.array(labels, dtype=bool)) == pytest.approx(np.pi / 4, abs=0.1)  # a disc's share of its box


def test_the_number_of_points_is_random_and_sometimes_one(pictures):
    conversations = rows_of(SampleSet((sample("a"),), pictures), Rows(PQPP))
    counts = [len(replies(conversations, index)) - 1 for index in range(400)]
    assert set(counts) <= set(range(1, 21))
    assert len(set(counts)) > 12
    others = [count for count in counts if count > 1]
    assert (np.mean(others), np.std(others)) == (pytest.approx(10, abs=0.7), pytest.approx(4, abs=0.6))
    assert counts.count(1) / 400 == pytest.approx(0.1, abs=0.05)
    first = {replies(conversations, index)[1] for index in range(400) if counts[index] == 1}
    assert set(map(parse_label, first)) == {True, False}


@pytest.mark.parametrize("mixture", [PPG, PQPP, LISTED, BOX], ids=["ppg", "pqpp", "listed", "box"])
def test_the_reply_for_a_sample_without_masks_is_none(pictures, mixture):
    nothing = SampleSet((sample("a", masks=()),), pictures)
    assert replies(rows_of(nothing, Rows(mixture), {})) == [MUTE.dialect.none]


def test_conversations_are_used_unchanged_beside_samples(many, pictures):
    rows = Rows(per_image=2)
    parts = [LoadedSource("set", many), LoadedSource("talks", talks(pictures), weight=0.5)]
    conversations = TrainingRows(corpus(parts, rows), rows, MUTE, Words())
    plans = [conversations.plan(index) for index in range(len(conversations))]
    talk_rows = [index for index, plan in enumerate(plans) if plan.kind == "talk"]
    assert sum(len(plans[index].items) for index in talk_rows) == 2  # those of one of two images
    for index in talk_rows:
        assert conversations.turns(index) == [turn for talk in plans[index].items for turn in talk.turns]
        assert conversations.row(index)[0].shape == (HEIGHT, WIDTH, 3)
    assert {item.id for plan in plans for item in plan.items} > {sample.id for sample in many}


def test_items_whose_text_contains_a_special_token_are_left_out(many, pictures, caplog):
    phrases = ["the <image> sign", "the [END]"]  # angle brackets become round ones
    poisoned = [sample(f"p{number}", phrase=phrase) for number, phrase in enumerate(phrases)]
    texts = [("<image>\nWhat?", "A cup."), ("What?", "An <image>"), ("What?", "The [END]"), ("What?", "A cup.")]
    turns = [tuple(map(Turn, ("user", "assistant"), pair)) for pair in texts]
    special = [Conversation(f"t{n}", "0.png", WIDTH, HEIGHT, pair) for n, pair in enumerate(turns)]
    rows = Rows(Mixture(ppg=1, pqpp=0, box=0))
    parts = [
        LoadedSource("set", replace(many, samples=(*many.samples, *poisoned))),
        LoadedSource("talks", ConversationSet(tuple(special), pictures)),
    ]
    conversations = TrainingRows(corpus(parts, rows), rows, MUTE, Words())
    used_ids = {item.id for index in range(len(conversations)) for item in conversations.plan(index).items}
    assert used_ids == {*(sample.id for sample in many), "p0", "t3"}
    mark_reason = "a special token of the model"
    assert {(item.source, item.kind, item.reason, item.ids) for item in conversations.corpus.left_out} == {
        ("set", "ppg", f"the text contains [END], {mark_reason}", ("p1",)),
        ("talks", "talk", f"the text contains <image>, {mark_reason}", ("t0", "t1")),
        ("talks", "talk", f"the text contains [END], {mark_reason}", ("t2",)),
    }
    reason = f"2 (the text contains <image>, {mark_reason}: t0, t1)"
    assert f"talks: not used for talk, of 4 talks: {reason}." in caplog.messages


def test_a_row_over_the_budget_gives_a_warning_and_is_not_cut(pictures, caplog):
    class Wrong(Words):
        """Counts half the tokens of each text."""

        def texts(self, texts):
            return [length // 2 for length in super().texts(texts)]

    samples = SampleSet((sample("a", phrase="the " * 30), sample("b", phrase="cup")), pictures)
    conversations = rows_of(samples, Rows(BOX, tokens=55), lengths=Wrong())
    for index in range(len(conversations) * 2):
        conversations.row(index)
        conversations.row(index)
    over = [index for index in range(len(conversations) * 2) if "a" in {i.id for i in conversations.plan(index).items}]
    assert over
    assert list(conversations.over) == over
    for index, tokens in conversations.over.items():
        assert tokens == Words().conversation(conversations.turns(index))[0] > 55
    assert [record.message for record in caplog.records] == [
        f"Row {index} has {tokens} tokens, more than the budget of 55: "
        f"{', '.join(item.id for item in conversations.plan(index).items)}."
        for index, tokens in conversations.over.items()
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda path: path.unlink(), "no such file", id="missing"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot read", id="cut short"),
        pytest.param(
            lambda path: write_png(path, np.zeros((20, 30, 3), np.uint8)),
            "2.png is 30 x 20 pixels, but the sample has 100 x 50",
            id="another size",
        ),
    ],
)
def test_only_the_images_of_the_needed_rows_are_checked(pictures, damage, message):
    samples = SampleSet(tuple(sample(f"s{n}", f"{n}.png") for n in range(3)), pictures)
    conversations = rows_of(samples)
    conversations.check_pictures(1000)
    damage(pictures / "2.png")
    with pytest.raises(UserError, match=message):
        conversations.check_pictures(1000)
    late = next(index for index in range(3) if conversations.plan(index).items[0].image == "2.png")
    conversations.check_pictures(late)
    with pytest.raises(UserError, match=f"sample s2: .*{message}"):
        conversations.row(late)


def test_each_process_reads_its_share_of_the_images(pictures, monkeypatch):
    samples = SampleSet(tuple(sample(f"s{n}", f"{n % 3}.png") for n in range(9)), pictures)
    conversations, read, picture = rows_of(samples), [], LoadedSource.read_image
    monkeypatch.setattr(
        LoadedSource, "read_image", lambda part, items: (read.append(items[0].image), picture(part, items))[1]
    )
    shares = []
    for process in range(2):
        conversations.check_pictures(1000, process, 2)
        shares.append(read[:])
        read.clear()
    assert sorted(shares[0] + shares[1]) == ["0.png", "1.png", "2.png"]
    assert all(shares)


def test_the_missing_image_of_a_conversation_is_reported(pictures):
    conversations = rows_of(talks(pictures, 1))
    (pictures / "0.png").unlink()
    with pytest.raises(UserError, match=r"talk t0: no such file: .*0\.png"):
        conversations.row(0)


@pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"], ids=["pads to a square", "pixels of the resized picture"])
def test_places_in_a_row_are_in_the_models_frame(pictures, tmp_path, family):
    mllm = HfMLLM.load(build(family, tmp_path / "model"), device="cpu")
    conversations = rows_of(
        SampleSet((sample("a"),), pictures), Rows(PPG), target("a"), lengths=mllm.lengths, mllm=mllm
    )
    image, turns = conversations.row(0)
    chat = mllm.open([image])
    assert chat.frames[0].canvas != (WIDTH, HEIGHT)
    [prompt] = parse_prompts(turns[1].text, mllm.dialect, chat.frames[0]).prompts
    assert near(prompt, KEPT, cell=1.0)  # in pixels of the resized image, which is larger
