"""A run with one sample for each kind of failure."""

from dataclasses import replace

from sam4mllm.evaluation.attribution import diagnose
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.geometry.prompts import Box, Point, Prompt, union
from sam4mllm.geometry.rle import Rle
from sam4mllm.language.messages import Reply
from sam4mllm.prediction.record import Prediction
from sam4mllm.prompters import PointAnswer
from sam4mllm.report.run import Run
from tests.drawing import HEIGHT, WIDTH, Painter, filled, given, painted, sample

EVIL = "<script>alert('x')</script> & \"quotes\""
DRAWS = Bootstrap(50)
LEFT, RIGHT = filled(0, 0, 8, 10), filled(10, 0, 18, 10)


def said(name, *prompts, **more):
    mask = union([painted(prompt) for prompt in prompts], HEIGHT, WIDTH)
    return Prediction(name, prompts, Rle.from_mask(mask), (Reply(f"reply {name}", True),), **more)


def box(x0, y0, x1, y1, *points):
    return Prompt(Box(x0, y0, x1, y1), points)


SAMPLES = (
    sample("right", LEFT, image="0.png"),
    sample("failed", LEFT, image="1.png"),
    sample("unreadable", LEFT, image="0.png"),
    sample("silent", LEFT, RIGHT, image="2.png"),
    sample("talkative", image="0.png"),
    sample("elsewhere", LEFT, image="1.png"),
    sample("loose", LEFT, image="2.png"),
    sample("mislabelled", LEFT, image="3.png"),
)
PREDICTIONS = (
    said("right", box(0, 0, 8, 10)),
    replace(said("failed"), error="out of memory"),
    said("unreadable", readable=False),
    said("silent"),
    said("talkative", box(0, 0, 5, 5)),
    said("elsewhere", box(10, 0, 18, 10)),
    said("loose", box(0, 0, 10, 10)),
    said("mislabelled", box(0, 0, 8, 10, Point(1.5, 5, positive=False)), point_answers=(PointAnswer(0, 1.5, 5, 0.1),)),
)
OTHERS = tuple(said(one.id, box(0, 0, 9, 10)) for one in SAMPLES)


def samples(folder):
    return given(folder, *SAMPLES)


def run(folder, diagnosed=True, predictions=PREDICTIONS, name="mine"):
    entries = diagnose(samples(folder), predictions, Painter(), "rela") if diagnosed else None
    return Run.of(name, SAMPLES, predictions, "rela", DRAWS, entries)
