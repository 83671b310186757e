import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.calibration.sweep import Survey
from sam4mllm.geometry.prompts import Box, Image, Prompt
from sam4mllm.language.messages import Reply
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import BATCHES_PER_PART, PredictionWork, predict, predict_shard, split_into_parts
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.store import Shard, prediction_paths
from sam4mllm.prompters import Prompting
from sam4mllm.prompters.adaptive import AdaptivePQPP
from sam4mllm.prompters.box import BoxPrompter
from sam4mllm.prompters.points import Layout
from sam4mllm.prompters.pqpp import PQPP
from sam4mllm.runtime.parallel import InProcess
from sam4mllm.segmenters.box import BoxScene, BoxSegmenter
from sam4mllm.segmenters.grabcut import GrabCutSegmenter

WIDTH, HEIGHT = 20, 10
REPLY = "[100,200,499,799]"


class Fussy:
    """Fills boxes, fails on white images, and counts the images it embeds."""

    capabilities = BoxSegmenter.capabilities

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, image: Image) -> BoxScene:
        self.embedded += 1
        if image.min() == 255:
            raise RuntimeError("too\nbright")
        return BoxSegmenter().embed(image)


def replies(key: str, image: Image, turns: Sequence[object]) -> str:
    if key == "mute":
        raise RuntimeError("out of memory")
    return {"none": "none", "prose": "What a lovely picture!"}.get(key, REPLY)


def pipeline(segmenter=None) -> Pipeline:
    return Pipeline(BoxPrompter(ScriptedMLLM(replies)), segmenter or Fussy())


@pytest.fixture
def samples(tmp_path: Path) -> SampleSet:
    images = tmp_path / "images"
    images.mkdir()
    for name, colour in (("dark", 0), ("white", 255)):
        PIL.Image.fromarray(np.full((HEIGHT, WIDTH, 3), colour, np.uint8)).save(images / f"{name}.png")
    (images / "text.png").write_text("no picture")

    def sample(key: str, image: str = "dark.png", phrase: str = "the cat", height: int = HEIGHT) -> Sample:
        return Sample(key, image, WIDTH, height, phrase, ())

    return SampleSet(
        (
            sample("first"),
            sample("none"),
            sample("prose"),
            sample("gone", "gone.png"),
            sample("text", "text.png"),
            sample("white", "white.png"),
            sample("mute"),
            sample("tall", height=HEIGHT + 1),
            sample("wordless", phrase=" "),
            sample("last"),
        ),
        images,
    )


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_every_sample_has_one_record_in_order_and_failures_stay_separate(tmp_path, samples, batch_size):
    predict(samples, pipeline(), tmp_path / "p.jsonl", batch_size=batch_size)
    predictions = read_predictions(tmp_path / "p.jsonl")
    assert [prediction.id for prediction in predictions] == [sample.id for sample in samples]
    by_id = {prediction.id: prediction for prediction in predictions}
    for key in ("first", "last"):
        assert by_id[key].error is None
        assert by_id[key].mask.area > 0
        assert [reply.text for reply in by_id[key].replies] == [REPLY]
    assert by_id["none"].readable
    assert not by_id["prose"].readable
    assert all(prediction.mask.area == 0 for key, prediction in by_id.items() if key not in ("first", "last"))
    assert {key: prediction.error for key, prediction in by_id.items() if prediction.error} == {
        "gone": f"no such file: {samples.images / 'gone.png'}",
        "text": by_id["text"].error,
        "white": "RuntimeError: too bright",
        "mute": "RuntimeError: out of memory",
        "tall": "the image has 20 x 10 pixels, but its sample has 20 x 11",
        "wordless": "the phrase is empty",
    }
    assert by_id["white"].prompts == by_id["first"].prompts  # the prompts survive the failure of the segmenter
    assert by_id["tall"].mask.size == (HEIGHT + 1, WIDTH)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_run_resumed_after_any_cut_ends_with_the_same_bytes(tmp_path, samples, batch_size):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    predict(samples, pipeline(), whole, batch_size=batch_size)
    data = whole.read_bytes()
    for place in sorted({*range(0, len(data), 61), 1, len(data) - 1, len(data)}):
        cut.write_bytes(data[:place])
        predict(samples, pipeline(), cut, batch_size=batch_size)
        assert cut.read_bytes() == data, place


def test_a_finished_run_does_not_call_the_model(tmp_path, samples):
    predict(samples, pipeline(), tmp_path / "p.jsonl")
    segmenter, progress_calls = Fussy(), []
    predict(samples, pipeline(segmenter), tmp_path / "p.jsonl", progress=progress_calls.append)
    assert segmenter.embedded == 0
    assert progress_calls == read_predictions(tmp_path / "p.jsonl")


def test_an_image_with_several_samples_is_embedded_once(tmp_path, samples):
    segmenter = Fussy()
    pair = SampleSet((samples.samples[0], samples.samples[-1]), samples.images)
    predict(pair, pipeline(segmenter), tmp_path / "p.jsonl")
    assert segmenter.embedded == 1


def test_a_prediction_is_written_before_progress_is_called(tmp_path, samples):
    out, seen = tmp_path / "p.jsonl", []
    predict(samples, pipeline(), out, progress=lambda prediction: seen.append(out.read_bytes().count(b"\n")))
    assert seen == list(range(1, len(samples) + 1))


def test_timings_are_written_and_survive_a_cut(tmp_path, samples):
    out, times = tmp_path / "p.jsonl", tmp_path / "p.timings.jsonl"
    predict(samples, pipeline(), out)
    out.write_bytes(out.read_bytes()[:-200])
    times.write_bytes(times.read_bytes()[:-60])
    predict(samples, pipeline(), out)
    records = [json.loads(line) for line in times.read_text().splitlines()]
    seconds = {record["id"]: set(record["seconds"]) for record in records}
    assert seconds["first"] == {"first", "embed", "segment"}
    assert seconds["gone"] == set()
    assert len(seconds) == len(records) >= len(samples) - 2  # 60 bytes cover parts of two lines


def test_settings_are_stored_and_runs_with_other_settings_are_refused(tmp_path, samples):
    out = tmp_path / "p.jsonl"
    predict(samples, pipeline(), out, settings={"mllm": "one"})
    assert json.loads((tmp_path / "p.settings.json").read_text()) == {"mllm": "one"}
    predict(samples, pipeline(), out, settings={"mllm": "one"})
    with pytest.raises(UserError, match="was started with "):
        predict(samples, pipeline(), out, settings={"mllm": "two"})
    out.unlink()
    predict(samples, pipeline(), out, settings={"mllm": "two"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"my notes", "something other", id="a note"),
        pytest.param(b"my notes\n", "line 1", id="a line of notes"),
    ],
)
def test_a_file_of_another_kind_is_not_changed(tmp_path, samples, content, message):
    (tmp_path / "p.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        predict(samples, pipeline(), tmp_path / "p.jsonl")
    assert (tmp_path / "p.jsonl").read_bytes() == content


def test_predictions_of_other_samples_are_not_changed(tmp_path, samples):
    out = tmp_path / "p.jsonl"
    predict(samples, pipeline(), out)
    before = out.read_bytes()
    with pytest.raises(UserError, match="belongs to other samples: none is not among these 1"):
        predict(SampleSet(samples.samples[:1], samples.images), pipeline(), out)
    assert out.read_bytes() == before
    out.write_bytes(before + before[: before.index(b"\n") + 1])
    with pytest.raises(UserError, match="contains first twice"):
        predict(samples, pipeline(), out)


def test_the_order_of_the_samples_changes_only_the_order_of_the_lines(tmp_path, samples):
    turned = SampleSet(samples.samples[::-1], samples.images)
    predict(samples, pipeline(), tmp_path / "one.jsonl", batch_size=3)
    predict(turned, pipeline(), tmp_path / "two.jsonl", batch_size=3)
    lines = (tmp_path / "one.jsonl").read_bytes().splitlines()
    assert (tmp_path / "two.jsonl").read_bytes().splitlines() == lines[::-1]
    predict(turned, pipeline(), tmp_path / "one.jsonl", batch_size=3)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_a_recording_of_a_run_replays_it(tmp_path, samples):
    predict(samples, pipeline(), tmp_path / "one.jsonl")
    answered = SampleSet(tuple(samples.samples[index] for index in (0, 1, 2, 9)), samples.images)
    again = Pipeline(BoxPrompter(ScriptedMLLM.replay(tmp_path / "one.jsonl")), BoxSegmenter())
    predict(answered, again, tmp_path / "two.jsonl")
    expected = [
        prediction
        for prediction in read_predictions(tmp_path / "one.jsonl")
        if prediction.id in ("first", "none", "prose", "last")
    ]
    assert read_predictions(tmp_path / "two.jsonl") == expected


@pytest.mark.parametrize(
    "way",
    [PQPP, AdaptivePQPP, lambda mllm: Survey(mllm, [Layout("grid", 9)])],
    ids=["PQPP", "adaptive", "a survey"],
)
@pytest.mark.parametrize("nonsense", [math.nan, -0.5], ids=str)
def test_an_invalid_probability_fails_only_its_sample(tmp_path, samples, way, nonsense):
    def leans(key, *_):
        return [nonsense, 1 - nonsense] if key == "last" else [0.9, 0.1]

    few = SampleSet(tuple(samples.samples[index] for index in (0, 1, 9)), samples.images)
    asking = Pipeline(way(ScriptedMLLM(replies, leans)), GrabCutSegmenter())
    predict(few, asking, tmp_path / "p.jsonl")
    first, none, last = read_predictions(tmp_path / "p.jsonl")
    assert (first.error, none.error) == (None, None)
    assert len(first.point_answers) >= 9
    assert (last.error, last.point_answers) == (
        f"the model returned {nonsense} as a probability of a point: its numbers overflow, try another dtype",
        (),
    )
    before = (tmp_path / "p.jsonl").read_bytes()
    predict(few, asking, tmp_path / "p.jsonl")  # resumes from the file
    assert (tmp_path / "p.jsonl").read_bytes() == before


def test_the_paths_of_settings_and_timings(tmp_path, samples):
    out = tmp_path / "out" / "p.jsonl"
    predict(samples, pipeline(), out, settings={"mllm": "one"})
    assert sorted(out.parent.iterdir()) == sorted(prediction_paths(out))


def test_no_samples_give_an_empty_file(tmp_path):
    predict(SampleSet((), tmp_path), pipeline(), tmp_path / "p.jsonl")
    assert read_predictions(tmp_path / "p.jsonl") == []


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_size_below_one_is_refused(tmp_path, samples, size):
    with pytest.raises(UserError, match="batch size must be 1 or more"):
        predict(samples, pipeline(), tmp_path / "p.jsonl", batch_size=size)


def test_the_predicted_box_is_segmented(tmp_path, samples):
    predict(samples, pipeline(), tmp_path / "p.jsonl")
    first = read_predictions(tmp_path / "p.jsonl")[0]
    (prompt,) = first.prompts
    assert isinstance(prompt, Prompt)
    assert first.mask.box == Box(2, 2, 10, 8)


class Batched:
    """A prompter that fills the box and replies with the keys of its batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, queries):
        self.batches.append([query.key for query in queries])
        reply = Reply("+".join(self.batches[-1]))
        return [Prompting((Prompt(Box(2, 2, 10, 8)),), (reply,)) for _ in queries]


@pytest.fixture
def many(tmp_path: Path) -> SampleSet:
    """27 shuffled samples: images of three sizes with 1 to 5 samples each."""
    samples = []
    for number in range(9):
        height = (HEIGHT, 2 * HEIGHT, 3 * HEIGHT)[number % 3]
        PIL.Image.fromarray(np.zeros((height, WIDTH, 3), np.uint8)).save(tmp_path / f"{number}.png")
        samples += [
            Sample(f"{number}-{row}", f"{number}.png", WIDTH, height, "it", ()) for row in range(number % 5 + 1)
        ]
    return SampleSet(tuple(sorted(samples, key=lambda sample: sample.id[::-1])), tmp_path)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_parts_hold_every_sample_once_complete_images_and_similar_sizes(many, batch_size):
    parts = split_into_parts(many, batch_size)
    assert list(parts) == list(range(len(parts)))
    samples = [sample for part in parts.values() for sample in part]
    assert sorted(sample.id for sample in samples) == sorted(sample.id for sample in many)
    assert [sample.height for sample in samples] == sorted((sample.height for sample in samples), reverse=True)
    for part in parts.values():
        pictures = {sample.image for sample in part}
        assert len(part) <= BATCHES_PER_PART * batch_size or len(pictures) == 1
        assert all(part.samples.count(sample) == 1 for sample in many if sample.image in pictures)
    assert split_into_parts(SampleSet(many.samples[::-1], many.images), batch_size) == parts
    assert split_into_parts(SampleSet((), many.images), batch_size) == {}


def test_batches_and_images_do_not_depend_on_where_a_run_was_cut(many, tmp_path):
    """Each reply contains the keys of its batch, so equal bytes mean equal batches."""
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    prompter, segmenter = Batched(), Fussy()
    predict(many, Pipeline(prompter, segmenter), whole, batch_size=2)
    assert max(map(len, prompter.batches)) == 2
    assert segmenter.embedded == 9
    lines = whole.read_bytes().splitlines(keepends=True)
    for kept_lines in (lines[::2], lines[20:], lines[:1], lines[5:9]):
        cut.write_bytes(b"".join(kept_lines))
        predict(many, Pipeline(Batched(), Fussy()), cut, batch_size=2)
        assert cut.read_bytes() == whole.read_bytes()


def test_merged_shards_in_any_order_end_with_the_same_bytes(many, tmp_path):
    predict(many, Pipeline(Batched(), Fussy()), tmp_path / "whole.jsonl", batch_size=2)
    out, seen = tmp_path / "shards.jsonl", []
    for number in (3, 1, 4, 2):
        prompter = Batched()
        work = PredictionWork(lambda _, own=prompter: Pipeline(own, Fussy()), 2)
        predict_shard(many, work, InProcess(), out, Shard(number, 4))
        seen += [key for batch in prompter.batches for key in batch]
    assert sorted(seen) == sorted(sample.id for sample in many)
    assert not out.exists()
    predict_shard(many, PredictionWork(lambda _: pytest.fail("built"), 2), InProcess(), out, Shard())
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_the_merging_run_predicts_what_shards_left_out(many, tmp_path):
    predict(many, Pipeline(Batched(), Fussy()), tmp_path / "whole.jsonl", batch_size=2)
    out = tmp_path / "shards.jsonl"
    predict_shard(many, PredictionWork(lambda _: Pipeline(Batched(), Fussy()), 2), InProcess(), out, Shard(1, 3))
    predict(many, Pipeline(Batched(), Fussy()), out, batch_size=2)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
