import numpy as np
import pytest
import torch

from sam4mllm.geometry.prompts import Frame, Point
from sam4mllm.language.templates import ask_boxes, ask_point, ask_prompts
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.prompters import Query
from sam4mllm.prompters.box import BoxPrompter
from sam4mllm.synthetic.phrases import WORDS
from tiny_models.lessons import QuestionCounts, ask_there
from tiny_models.loop import Loop
from tiny_models.mllm import Lessons, MllmTraining
from tiny_models.model import LATTICE, ROW, build, unmet

FRAME = Frame.unscaled(112, 112)


@pytest.fixture(scope="module")
def parts():
    return build(0)


def test_the_mllm_is_small(parts):
    assert sum(weight.numel() for weight in parts[0].parameters()) < 2_000_000


@pytest.mark.parametrize(
    "text",
    [
        "the red ring",
        "<box><p011><p006><p056><p084> <p034><p045>: inside\n<box><p000><p000><p112><p112>",
        ask_boxes("both blue circles", ROW),
        "a pangolin, 7 metres — déjà vu",
    ],
    ids=["words", "places", "a question", "anything else"],
)
def test_every_text_is_decoded_from_its_tokens(parts, text):
    tokenizer = parts[1].tokenizer
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_words_and_places_are_one_token_each_and_a_question_is_few(parts):
    tokenizer = parts[1].tokenizer
    assert all(len(tokenizer(f" {term}")["input_ids"]) == 1 for term in WORDS)
    assert len(tokenizer(ROW.write_point(Point(5, 6), FRAME))["input_ids"]) == 2
    for question in (ask_boxes("red ring", ROW), ask_prompts("red ring", LATTICE, LATTICE, ROW)):
        assert len(tokenizer(question)["input_ids"]) == 4
    assert len(tokenizer(ask_point(Point(5, 6), "red ring", ROW, FRAME))["input_ids"]) == 7


def test_training_the_base_leaves_tokens_that_it_never_generates_unchanged(parts):
    model, tokenizer = parts[0], parts[1].tokenizer
    table = model.get_input_embeddings().weight
    recipe = MllmTraining(out="", loop=Loop(0, 1), scenes=1, asked=QuestionCounts(there=1, kinds=1))
    loss, _ = Lessons(model, tokenizer, recipe).loss(0)
    [gradient] = torch.autograd.grad(loss, [table])
    pushed = gradient.abs().sum(dim=1) > 0
    assert not pushed[unmet(tokenizer)].any()
    assert pushed[tokenizer.convert_tokens_to_ids(["Yes", "none", "<box>", "<p000>", "a"])].all()
    base = {*tokenizer(ask_boxes("red ring", ROW)).input_ids, *tokenizer(ask_there("red ring")).input_ids}
    assert not base & set(unmet(tokenizer))
    assert set(tokenizer("inside outside").input_ids) <= set(unmet(tokenizer))
    question = tokenizer(ask_point(Point(5, 6), "ring", ROW, FRAME)).input_ids
    assert len(set(question) & set(unmet(tokenizer))) == 3  # all but the ring and its place


def test_a_saved_model_loads_like_any_checkpoint_and_selects_its_dialect(parts, tmp_path):
    model, processor = parts
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    mllm = HfMLLM.load(tmp_path, device="cpu", max_new_tokens=4)
    assert mllm.dialect is ROW
    [prompting] = BoxPrompter(mllm)([Query(np.zeros((112, 112, 3), dtype=np.uint8), "the red ring")])
    assert prompting.replies
