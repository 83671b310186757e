import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from sam4mllm.evaluation.pairing import by_label
from sam4mllm.evaluation.scores import scores_of
from sam4mllm.evaluation.subsets import subsets_named
from sam4mllm.images.files import read_image
from sam4mllm.language.messages import Reply
from sam4mllm.report.page import render_report
from sam4mllm.report.run import Run
from tests.report.made import DRAWS, EVIL, OTHERS, PREDICTIONS, SAMPLES, run, samples
from tests.report.parsed import Page, picture_sizes, plain, stands_alone

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def page(folder, *runs, **more):
    return render_report(samples(folder), *(runs or [run(folder)]), title="set: mine", bootstrap=DRAWS, **more)


@pytest.mark.parametrize("two", [False, True], ids=["one run", "two runs"])
@pytest.mark.parametrize("diagnosed", [False, True], ids=["not diagnosed", "diagnosed"])
def test_the_page_is_self_contained_and_every_image_can_be_decoded(tmp_path, two, diagnosed):
    runs = [run(tmp_path, diagnosed), *([run(tmp_path, diagnosed, OTHERS, "other")] if two else [])]
    text = page(tmp_path, *runs, by=["targets"])
    assert stands_alone(text)
    cards = [tag for tag, _ in Page(text).tags if tag == "article"]
    assert len(picture_sizes(text)) == len(cards) * (3 if two else 2)
    held = Page(text).held
    assert len(held) == len(set(held)) < len(Page(text).pictures)
    assert ("stacked" in str(Page(text).tags)) == diagnosed


def test_the_page_shows_scores_signature_and_failures(tmp_path):
    text = plain(page(tmp_path, notes=["an oracle's"]))
    assert "an oracle's Profile rela; scores in percent." in text
    assert "profile:rela|n:8|samples:" in text
    assert "bootstrap:50,seed 0" in text
    assert "Samples that failed: 1 failed: out of memory" in text
    assert "Replies with neither coordinates nor a none: 1 unreadable" in text


def test_every_kind_of_subset_has_scores_and_losses(tmp_path):
    found = Page(page(tmp_path, by=["targets", "words"]))
    captions = ["Scores of mine by targets, in percent", "Scores of mine by words, in percent"]
    assert [caption for caption in found.text("caption") if caption.startswith("Scores of")] == captions
    assert sum(caption.startswith("Lost IoU") for caption in found.text("figcaption")) == 3


def test_every_subset_has_its_signature(tmp_path):
    whole = run(tmp_path)
    items = Page(page(tmp_path, by=["targets"])).text("li")
    for label, part in by_label(whole.tally, subsets_named("targets")).items():
        assert f"{label}: {scores_of(part).signature}" in items


def test_phrases_and_replies_are_escaped(tmp_path):
    point_answers = tuple(replace(one, id=f"{one.id}{EVIL}", phrase=EVIL) for one in SAMPLES)
    said = tuple(replace(one, id=f"{one.id}{EVIL}", replies=(Reply(EVIL, False),)) for one in PREDICTIONS)
    whole = Run.of(EVIL, point_answers, said, "rela", DRAWS)
    text = render_report(replace(samples(tmp_path), samples=point_answers), whole, title=EVIL, bootstrap=DRAWS)
    assert stands_alone(text)
    assert EVIL in Page(text).text("bdi")
    assert f"{EVIL} … (cut off)" in Page(text).text("blockquote")


def test_the_same_input_gives_the_same_bytes(tmp_path):
    assert page(tmp_path) == page(tmp_path)


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the path")
@pytest.mark.parametrize("width", [360, 1200], ids=["phone", "desk"])
def test_a_browser_renders_the_page(tmp_path, width):
    shot, dumped = tmp_path / "shot.png", tmp_path / "browser"
    (tmp_path / "page.html").write_text(
        page(tmp_path, run(tmp_path), run(tmp_path, True, OTHERS, "other"), by=["targets"])
    )
    frame = tmp_path / "frame.html"  # a headless window is no narrower than 500, a phone is
    frame.write_text(
        f'<!doctype html><body style="margin:0"><iframe src="page.html" '
        f'style="border:0;width:{width}px;height:1600px"></iframe>'
    )
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={dumped}"]
    words += ["--window-size=1200,1600", f"--screenshot={shot}", frame.as_uri()]
    subprocess.run(words, capture_output=True, check=True, timeout=120)
    seen = read_image(shot)[:, :width]
    assert seen.shape == (1600, width, 3)
    colours = {tuple(colour) for colour in np.unique(seen.reshape(-1, 3), axis=0).tolist()}
    assert {(209, 73, 63), (207, 111, 31), (76, 130, 214)} <= colours  # parts of the stacked bars
    side = seen[:, -6:].reshape(-1, 3)
    assert (side == side[0]).all()  # nothing runs off the page
