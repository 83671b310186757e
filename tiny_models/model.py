"""The tiny MLLM: a standard transformers class with 1.5 million parameters, and its tokenizer and chat template.

The tokenizer has a token for every word of the synthetic scenes, for every pixel position along an axis of a 112 x 112
image, and for each constant part of the prompts, so that a turn has about a dozen tokens. Other text is in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from sam4mllm.geometry.prompts import Box, Frame, Point
from sam4mllm.language.dialects import dialect
from sam4mllm.language.templates import ask_boxes, ask_point, ask_prompts
from sam4mllm.synthetic.phrases import WORDS
from tiny_models.lessons import ask_name, ask_there

SIDE, PATCH = 112, 8
ROW = dialect("tiny")
EMBEDDED = 3.0  # scales initial token embeddings to the size of trained ones
SIDES = ("inside", "outside")
LATTICE = 9  # the most positive or negative points of PPG in the tiny recipes
SPECIAL = ("<pad>", "<image>", "<user>", "<reply>", "<end>")
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<user>{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% else %}<reply>{{ m['content'][0]['text'] }}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<reply>{% endif %}"
)

_FRAME, _MARK, _BOX, _POINT = Frame.unscaled(SIDE, SIDE), "@@", Box(1, 2, 3, 4), Point(5, 6)
_BASE = (
    ask_boxes(_MARK, ROW),
    ask_name(_POINT, ROW, _FRAME),
    ask_there(_MARK),
)  # the questions that the base is trained on
_POINTS = (  # the questions of PPG and PQPP
    ask_prompts(_MARK, LATTICE, LATTICE, ROW),
    ask_point(_POINT, _MARK, ROW, _FRAME),
    ask_point(_POINT, _MARK, ROW, _FRAME, _BOX),
)


def build(seed: int) -> tuple[Any, Any]:
    """The model with random weights, of the class that ``architecture.json`` names, and its processor."""
    tokenizer = _tokenizer()
    sizes = json.loads(Path(__file__).with_name("architecture.json").read_text(encoding="utf-8"))
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes["text_config"] |= {"vocab_size": len(tokenizer), **ends}
    config = tf.AutoConfig.for_model(
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=(SIDE // PATCH) ** 2, **sizes
    )
    torch.manual_seed(seed)
    model = tf.AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(EMBEDDED)  # tokens that never occur keep the size of those that do
    model.generation_config = tf.GenerationConfig(**ends)
    processor = PROCESSOR_MAPPING[type(config)](
        image_processor=tf.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    )
    return model, processor


def _tokenizer() -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    terms = [form for term in (*WORDS, *SIDES, "none", "Yes", "No", "ground") for form in (term, f"Ġ{term}")]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys((*SPECIAL, *alphabet, *terms)))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|\s|[^\sA-Za-z]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    places = ["<box>", *(f"<p{index:03d}>" for index in range(SIDE + 1))]
    core.add_tokens(
        [AddedToken(piece, normalized=False) for piece in (*places, *sorted({*_pieces(_BASE), *_pieces(_POINTS)}))]
    )
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<end>",
        extra_special_tokens={"image_token": "<image>", "user_token": "<user>", "reply_token": "<reply>"},
    )


def unmet(tokenizer: Any) -> list[int]:
    """The tokens that occur only in questions and replies of PPG and PQPP; their embeddings keep their initial values.

    If the loss included them as possible outputs, training would push all of them in the same direction, until their
    embeddings were almost equal.
    """
    question_pieces = _pieces(_POINTS) - _pieces(_BASE)
    side_terms = {form for side in SIDES for form in (side, f"Ġ{side}")}
    return sorted(tokenizer.convert_tokens_to_ids([*question_pieces, *side_terms]))


def _pieces(questions: Sequence[str]) -> set[str]:
    """The constant parts of questions, around the phrase and the places."""
    for place in (ROW.write_box(_BOX, _FRAME), ROW.write_point(_POINT, _FRAME)):
        questions = [text.replace(place, _MARK) for text in questions]
    return {piece for text in questions for piece in text.split(_MARK) if piece}
