import math

import numpy as np
import pytest

from sam4mllm.data.conversations import Conversation, write_conversations
from sam4mllm.data.samples import Sample, SampleSet, read_samples, write_samples
from sam4mllm.data_prep.cards import PreviewCase
from sam4mllm.data_prep.preview import MAX_WORST, choose_cases, make_cases, render_preview
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import write_png
from sam4mllm.language.messages import Turn
from sam4mllm.segmenters.box import BoxSegmenter
from sam4mllm.targets.record import Target, write_targets
from tests.report.parsed import Page, picture_sizes, plain, stands_alone
from tests.running import invoke

EVIL = "<script>alert('x')</script> & \"quotes\""


def mask(x0=2, y0=3, x1=10, y1=9, height=16, width=20):
    made = np.zeros((height, width), bool)
    made[y0:y1, x0:x1] = True
    return made


def sample(number, phrase="a square", masks=1, image=None, **more):
    rles = tuple(Rle.from_mask(mask(x0=2 + index)) for index in range(masks))
    return Sample(f"set-{number}", image or f"{number}.png", 20, 16, phrase, rles, source="set", split="val", **more)


def target(number, iou, index=0, prompts=1, points=0):
    clicks = tuple(Point(3.5 + step, 4.5, step % 2 == 0) for step in range(points))
    chosen = tuple(Prompt(Box(2, 3, 10 + step, 9), clicks) for step in range(prompts))
    return Target(f"set-{number}", index, chosen, (iou,) * prompts, iou)


def by_mask(*targets):
    return {(each.sample_id, each.index): each for each in targets}


def write_images(folder, *samples, missing=()):
    """The samples, with an image for each but the missing ones."""
    for each in samples:
        if each.image not in missing:
            write_png(folder / each.image, np.full((16, 20, 3), 90, np.uint8))
    return SampleSet(samples, folder)


def test_the_page_stands_alone(tmp_path):
    samples = write_images(tmp_path, sample(0), sample(1))
    assert stands_alone(render_preview(samples, "set / val", by_mask(target(0, 0.9, points=3), target(1, 0.5))))


def test_every_image_can_be_read(tmp_path):
    sizes = picture_sizes(render_preview(write_images(tmp_path, sample(0)), "", by_mask(target(0, 0.9))))
    assert [max(size) for size in sizes] == [480, 480]  # the true mask, the prompts


@pytest.mark.parametrize("place", ["phrase", "raw", "kind", "source", "split", "id", "image"])
def test_every_text_is_escaped(tmp_path, place):
    values = {"id": "set-0", "image": "0.png", "phrase": "a", "raw": "b", "source": "set", "split": "val", "kind": "c"}
    made = Sample(width=20, height=16, masks=(Rle.from_mask(mask()),), **{**values, place: EVIL})
    samples = SampleSet((made,), tmp_path)  # without an image, so that its path is listed too
    text = render_preview(samples, f"{EVIL} title", {(made.id, 0): Target(made.id, 0, (), (), 0.1)})
    page = Page(text)
    assert not any(tag == "script" for tag, _ in page.tags)
    assert page.text("h1") == [f"{EVIL} title"]
    assert EVIL in plain(text).removeprefix(f"{EVIL} title").replace(f"{EVIL} title", "")


def test_alternative_texts_are_escaped(tmp_path):
    page = Page(render_preview(write_images(tmp_path, sample(0, EVIL)), ""))
    assert [each["alt"] for tag, each in page.tags if tag == "img"] == [f"ground truth: {EVIL}"]


def test_the_worst_come_first(tmp_path):
    samples = write_images(tmp_path, *(sample(number, f"phrase {number}") for number in range(30)))
    order = np.random.default_rng(0).permutation(30)
    targets = by_mask(*(target(number, 0.3 + order[number] / 50) for number in range(30)))
    page = Page(render_preview(samples, "", targets, limit=25))
    phrases = [int(words.removeprefix("phrase ")) for words in page.text("bdi")]
    assert phrases[:MAX_WORST] == [int(number) for number in np.argsort(order)[:MAX_WORST]]
    assert phrases[MAX_WORST:] == sorted(phrases[MAX_WORST:])
    assert len(set(phrases)) == 25
    assert page.text("h2") == ["Worst 20", "Other samples"]
    assert "5 of 10, evenly spaced, in order." in page.text("p")


@pytest.mark.parametrize(
    ("scores", "limit", "worst", "none", "rest"),
    [
        pytest.param([None] * 4, 2, [], [], [0, 2], id="an even choice"),
        pytest.param([None] * 4, 9, [], [], [0, 1, 2, 3], id="all"),
        pytest.param([0.5, None, 0.2, 0.5], 9, [2, 0, 3], [], [1], id="equals in order"),
        pytest.param([0.5, None, 0.2, 0.5], 2, [2, 0], [], [], id="a limit below the worst"),
        pytest.param([-0.1, 0.6, -0.0, 0.5], 9, [3, 1], [2, 0], [], id="worst with a prompt first"),
        pytest.param([-0.1, 0.6, -0.0, 0.5], 3, [3, 1], [2], [], id="a limit among those without a prompt"),
        pytest.param(
            [-0.3] * 25 + [0.5, None], 60, [25], list(range(20)), [*range(20, 25), 26], id="many without a prompt"
        ),
        pytest.param([], 5, [], [], [], id="nothing"),
    ],
)
def test_cases_are_chosen_worst_first(scores, limit, worst, none, rest):
    """A minus stands for a mask that keeps no prompt."""
    cases = [
        PreviewCase(
            sample(number),
            0,
            None if score is None else target(number, abs(score), prompts=int(math.copysign(1, score) > 0)),
        )
        for number, score in enumerate(scores)
    ]
    found = choose_cases(cases, limit)
    assert [[cases.index(case) for case in part] for part in found] == [worst, none, rest]


@pytest.mark.parametrize("missing", [0, 3])
def test_masks_without_a_prompt_have_their_own_section(tmp_path, missing):
    samples = write_images(tmp_path, *(sample(number, f"phrase {number}") for number in range(6 + missing)))
    targets = by_mask(*(target(number, 0.1 * number, prompts=int(number > 2)) for number in range(6)))
    page = Page(render_preview(samples, "", targets))
    rest = ["Other samples"] if missing else []
    assert page.text("h2") == ["Worst 3 without a prompt", "Worst 3", *rest]
    assert page.text("bdi") == [f"phrase {number}" for number in range(6 + missing)]
    assert sum("the target has no prompt" in text for text in page.text("p")) >= 3


def test_every_mask_and_every_empty_expression_is_a_case():
    samples = [sample(0, masks=2), sample(1, masks=0), sample(2)]
    targets = by_mask(target(0, 0.7, index=1), target(2, 0.9))
    assert [(case.sample.id, case.index) for case in make_cases(samples, targets)] == [
        ("set-0", 0),
        ("set-0", 1),
        ("set-1", None),
        ("set-2", 0),
    ]
    assert [case.target and case.target.ceiling for case in make_cases(samples, targets)] == [None, 0.7, None, 0.9]
    assert [case.index for case in make_cases(samples, None)] == [None, None, None]


def test_problems_are_counted_and_named_and_keep_their_card(tmp_path):
    empty = Sample("set-9", "9.png", 20, 16, "nothing there", (Rle.empty(16, 20),), source="set", split="val")
    small = sample(8)
    samples = write_images(
        tmp_path, sample(0), sample(1), sample(2, masks=2), sample(3), empty, small, missing=("1.png",)
    )
    write_png(tmp_path / "8.png", np.zeros((5, 6, 3), np.uint8))
    (tmp_path / "0.png").write_bytes(b"no picture")
    chosen = (target(0, 0.9), target(1, 0.8), target(2, 0.7), target(8, 0.7), target(5, 0.1))
    targets = by_mask(*chosen, target(3, 0.1, prompts=0), target(9, 0, prompts=0))
    text = render_preview(samples, "", targets)
    assert "Missing images: 1 1.png" in plain(text)
    assert "Cards whose image cannot be used: 3" in plain(text)
    assert "is not an image in a supported format" in plain(text)
    assert "the image is 6 x 5 pixels, the sample expects 20 x 16" in plain(text)
    assert "Expressions with an empty mask: 1 set-9" in plain(text)
    assert "Masks without a target: 1 set-2, mask 1" in plain(text)
    assert "Masks without a prompt that reaches the minimum IoU: 1 set-3, mask 0" in plain(text)
    assert "Targets of unknown masks: 1 set-5, mask 0" in plain(text)
    assert len([tag for tag, _ in Page(text).tags if tag == "article"]) == 7


def test_a_page_without_problems_lists_none(tmp_path):
    text = render_preview(write_images(tmp_path, sample(0)), "", by_mask(target(0, 0.9)))
    assert not any(tag == "details" for tag, _ in Page(text).tags)


def test_the_summary_counts_each_split(tmp_path):
    several = sample(1, masks=3)
    samples = write_images(tmp_path, sample(0, image="same.png"), several, sample(2, masks=0, image="same.png"))
    cells = Page(render_preview(samples, "")).text("th", "td")[7:]
    assert cells == ["set", "val", "3", "2", "4", "1", "1"]


@pytest.mark.parametrize(
    ("targets", "segmenter", "note", "count"),
    [
        pytest.param(None, None, "Prompts and IoUs need targets.", 1, id="samples alone"),
        pytest.param(by_mask(target(0, 1.0)), None, "no mask is predicted", 2, id="stored"),
        pytest.param(by_mask(target(0, 1.0)), BoxSegmenter(), "predicts from it now", 2, id="redrawn"),
    ],
)
def test_the_page_says_what_it_shows(tmp_path, targets, segmenter, note, count):
    text = render_preview(write_images(tmp_path, sample(0)), "", targets, segmenter)
    assert note in plain(text)
    assert len(Page(text).pictures) == count
    assert ("IoU, segmented now" in text) == (segmenter is not None)


def test_a_segmenter_other_than_that_of_the_targets_is_detected(tmp_path):
    samples = write_images(tmp_path, sample(0))
    assert "differs from the stored one" not in render_preview(samples, "", by_mask(target(0, 1.0)), BoxSegmenter())
    text = render_preview(samples, "", by_mask(target(0, 0.6)), BoxSegmenter())
    assert "1.000" in Page(text).text("b")
    assert "IoU differs from the stored one" in plain(text)


def test_the_predicted_mask_is_drawn(tmp_path):
    samples = write_images(tmp_path, sample(0))
    stored, redrawn = (
        Page(render_preview(samples, "", by_mask(target(0, 1.0)), each)) for each in (None, BoxSegmenter())
    )
    assert stored.pictures[0] == redrawn.pictures[0]
    assert stored.pictures[1] != redrawn.pictures[1]


def test_an_empty_split_is_a_page(tmp_path):
    for targets in (None, {}):
        assert "0 expressions" in plain(render_preview(SampleSet((), tmp_path), "", targets))


def written(folder, *targets):
    samples = write_images(folder / "images", *(sample(number) for number in range(3)))
    write_samples(samples, folder / "val", folder / "images")
    write_targets(targets or [target(number, 0.9) for number in range(3)], folder / "targets", {})
    return folder


def run(*words):
    return invoke("data", "preview", *words)


def test_the_command_writes_the_page_of_a_split(tmp_path):
    folder = written(tmp_path)
    words = [folder / "val", "--targets", folder / "targets", "--segmenter", "box", "--out", tmp_path / "x" / "a.html"]
    result = run(*words, "--limit", 2)
    assert result.exit_code == 0, result.output
    assert "a.html: 2 cards" in result.stdout
    first = (tmp_path / "x" / "a.html").read_bytes()
    assert run(*words, "--limit", 2).exit_code == 0
    assert (tmp_path / "x" / "a.html").read_bytes() == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--segmenter", "box"], "give --targets too", id="a segmenter alone"),
        pytest.param(["--targets", "val"], "is not a targets folder", id="no targets"),
        pytest.param(["--targets", "others"], "holds targets of other samples", id="targets of another set"),
        pytest.param(["--targets", "targets", "--segmenter", "cut"], "unknown segmenter", id="no such segmenter"),
        pytest.param(["--targets", "points", "--segmenter", "box"], "takes no points", id="points for a box"),
        pytest.param(
            ["--targets", "targets", "--segmenter", "grabcut", "--device", "cuda"], "only on the CPU", id="no device"
        ),
        pytest.param(["--out", "/proc/a.html"], "cannot write", id="unwritable"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(written(tmp_path))
    write_targets([target(77, 0.9)], tmp_path / "others", {})
    write_targets([target(0, 0.9, points=2)], tmp_path / "points", {})
    result = run("val", *words)
    assert result.exit_code == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ")] == [
        line for line in result.stderr.splitlines() if message in line
    ]
    assert message in result.stderr
    assert not (tmp_path / "sheet.html").exists()


def test_a_folder_of_conversations_is_refused(tmp_path):
    write_conversations(
        [Conversation("a", "0.png", 20, 16, (Turn("user", "What?"), Turn("assistant", "It.")))], tmp_path, tmp_path
    )
    result = run(tmp_path, "--out", tmp_path / "a.html")
    assert result.exit_code == 2
    assert (
        result.stderr
        == f"error: {tmp_path} holds conversations, which have no masks to preview: give a folder of samples\n"
    )
    write_samples([sample(0)], tmp_path, tmp_path)
    assert run(tmp_path, "--out", tmp_path / "a.html").exit_code == 0


def test_real_photos_are_shown(real_data, tmp_path):
    from sam4mllm.data_prep.readers.refcoco import prepare

    root = real_data / "refcoco_real"
    write_samples(prepare(root, "refcoco", "unc").splits["testB"], tmp_path / "testB", root / "images")
    text = render_preview(read_samples(tmp_path / "testB"), "refcoco / testB")
    assert len(Page(text).pictures) == 20
    assert "Missing images" not in text
