import numpy as np
import pytest
import torch

from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.hf.rows import IGNORE_LABEL
from sam4mllm.synthetic import draw_split
from tiny_models.lessons import QuestionCounts, boxes_lessons
from tiny_models.model import PATCH, ROW, SIDE, build
from tiny_models.packing import Packer

PATCHES = (SIDE // PATCH) ** 2


@pytest.fixture(scope="module")
def parts():
    model, processor = build(0)
    return model.eval(), processor


def conversations(index):
    return boxes_lessons(
        draw_split("train", index), QuestionCounts(2, 1, 1, 99, 0.5), ROW, np.random.default_rng(index)
    )


@torch.no_grad()
def logits_of_rows(model, processor, index):
    """The supervised logits of each conversation alone, as in `Chat`, and their labels."""
    mllm, drawing = HfMLLM(model, processor, ROW), draw_split("train", index)
    for turns in conversations(index):
        row = mllm.rows([(drawing.image, turns)])
        labels = row.pop("labels")[:, 1:]
        yield model(**row).logits[:, :-1][labels != IGNORE_LABEL], labels[labels != IGNORE_LABEL]


@torch.no_grad()
def test_packing_does_not_change_the_logits_of_a_conversation(parts):
    model, processor = parts
    drawings = [draw_split("train", index) for index in range(2)]
    packed = Packer(processor.tokenizer, PATCHES).pack([conversations(index) for index in range(2)])
    pixels = processor.image_processor([drawing.image for drawing in drawings], return_tensors="pt")["pixel_values"]
    embedded = model.get_input_embeddings()(packed.ids)
    seen = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
    is_image = packed.ids == processor.tokenizer.convert_tokens_to_ids("<image>")
    embedded[is_image] = model.model.multi_modal_projector(seen).flatten(0, 1)
    states = model.model.language_model(
        inputs_embeds=embedded,
        attention_mask=torch.where(packed.mask, 0.0, torch.finfo(torch.float32).min),
        position_ids=packed.positions,
    ).last_hidden_state
    labels = packed.labels[:, 1:]
    is_reply = labels != IGNORE_LABEL
    pairs = [pair for index in range(2) for pair in logits_of_rows(model, processor, index)]
    logits, separate_labels = map(torch.cat, zip(*pairs, strict=True))
    assert torch.equal(labels[is_reply], separate_labels)
    assert torch.allclose(model.lm_head(states[:, :-1][is_reply]), logits, atol=1e-4)


def test_a_conversation_attends_only_to_the_image_and_itself(parts):
    packed, first = Packer(parts[1].tokenizer, PATCHES).pack([conversations(0)]), PATCHES + 1
    starts = [at for at in range(first, packed.ids.shape[1]) if packed.positions[0, at] == first]
    mask = packed.mask[0, 0]
    assert len(starts) > 3
    assert not mask[starts[1] :, first : starts[1]].any()
    assert bool(mask[starts[1], :first].all())
