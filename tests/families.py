"""Small random models of the real classes, each with its processor and tokenizer, built offline in about a second.

0.1 to 0.5 million parameters, float32, weights large enough that logits are far from flat, and an end of turn that
random text does meet, so that replies have different lengths. The chat templates have the structure of the published
ones: the position of the image, the end of a turn, a space before a reply. `build` saves a family to a folder, from
which the Auto classes load it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = [
    "Where is the cat on the left? Is the point on it? Yes. No. Yes, it is. No, it is not. left side right hand.",
    "USER: ASSISTANT: user assistant model Answer with one box, as [281,240,863,999]. none (093,070) Say yes or no.",
]

Parts = tuple[Any, Any]  # a configuration's model and a processor
Builder = Callable[[], Parts]


@dataclass(frozen=True)
class Shape:
    """A chat template by its pieces."""

    user: str
    image: str
    after_user: str
    reply: str
    after_reply: str
    begin: str = ""
    generation: str | None = None

    def jinja(self) -> str:
        piece = {name: "{{ " + repr(value) + " }}" for name, value in vars(self).items()}
        generation = self.reply.rstrip(" ") if self.generation is None else self.generation
        return (
            piece["begin"]
            + "{% for m in messages %}{% if m['role'] == 'user' %}"
            + piece["user"]
            + "{% for c in m['content'] %}{% if c['type'] == 'image' %}"
            + piece["image"]
            + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
            + piece["after_user"]
            + "{% else %}"
            + piece["reply"]
            + "{{ m['content'][0]['text'] }}"
            + piece["after_reply"]
            + "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ "
            + repr(generation)
            + " }}{% endif %}"
        )


def chatml(image: str, generation: str | None = None) -> str:
    start, end = "<|im_start|>", "<|im_end|>\n"
    return Shape(f"{start}user\n", image, end, f"{start}assistant\n", end, generation=generation).jinja()


def tokenizer(roles: Mapping[str, str], special: str, eos: str = "<|im_end|>", bos: str | None = None) -> Any:
    """A byte-level BPE with a few merges; ``roles`` are the token names that the processors need."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    fast = tf.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=eos,
        bos_token=bos,
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=dict(roles),
    )
    fast.add_special_tokens({"additional_special_tokens": special.split()}, replace_extra_special_tokens=False)
    return fast


def text(tok: Any, **changes: Any) -> dict[str, Any]:
    """The sizes of a small language model."""
    sizes = {
        "vocab_size": len(tok),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        **{f"{token}_token_id": getattr(tok, f"{token}_token_id") for token in ("pad", "eos", "bos")},
    }
    return {**sizes, **changes}


def tower(**changes: Any) -> dict[str, Any]:
    """The sizes of a small vision transformer."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**sizes, "image_size": 56, "patch_size": 14, **changes}


def merging_tower(**changes: Any) -> dict[str, Any]:
    """The sizes of a small vision transformer that merges patches for the language model."""
    sizes = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    return {**sizes, **changes}


def image_processor(kind: str, patch: int = 14, patches: tuple[int, int] = (4, 48), **options: Any) -> Any:
    """An image processor that limits the number of patches per image."""
    least, most = (patch**2 * count for count in patches)
    return getattr(tf, kind)(size={"shortest_edge": least, "longest_edge": most}, **options)


QWEN_ROLES = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
QWEN_ROLES |= {f"vision_{side}_token": f"<|vision_{side}|>" for side in ("start", "end")}
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def qwen_ids(tok: Any) -> dict[str, int]:
    return {f"{role}_id": tok.convert_tokens_to_ids(token) for role, token in QWEN_ROLES.items()}


def mrope(sections: list[int], **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "mrope_section": sections, "rope_theta": 10000.0, **more}


def qwen2_vl() -> Parts:
    tok = tokenizer(QWEN_ROLES, "<|im_start|> <|box_start|> <|box_end|>")
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    config = tf.Qwen2VLConfig(
        text_config=text(tok, rope_parameters=mrope([2, 3, 3])), vision_config=vision, **qwen_ids(tok)
    )
    images, videos = image_processor("Qwen2VLImageProcessor"), tf.Qwen2VLVideoProcessor()
    processor = tf.Qwen2VLProcessor(images, tok, videos, chat_template=chatml(QWEN_IMAGE))
    return tf.Qwen2VLForConditionalGeneration(config), processor


def qwen2_5_vl() -> Parts:
    tok = tokenizer(QWEN_ROLES, "<|im_start|>")
    vision = merging_tower(patch_size=14, fullatt_block_indexes=[1], window_size=56)
    config = tf.Qwen2_5_VLConfig(
        text_config=text(tok, rope_parameters=mrope([2, 3, 3])), vision_config=vision, **qwen_ids(tok)
    )
    images, videos = image_processor("Qwen2VLImageProcessor"), tf.Qwen2VLVideoProcessor()
    processor = tf.Qwen2_5_VLProcessor(images, tok, videos, chat_template=chatml(QWEN_IMAGE))
    return tf.Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3_processor(tok: Any, template: str) -> Any:
    images = image_processor("Qwen2VLImageProcessor", 16, patch_size=16)
    return tf.Qwen3VLProcessor(images, tok, tf.Qwen3VLVideoProcessor(), chat_template=template)


def qwen3_vl() -> Parts:
    tok = tokenizer(QWEN_ROLES, "<|im_start|>")
    config = tf.Qwen3VLConfig(
        text_config=text(tok, head_dim=16, rope_parameters=mrope([4, 2, 2], mrope_interleaved=True)),
        vision_config=merging_tower(patch_size=16, num_position_embeddings=64, deepstack_visual_indexes=[0]),
        **qwen_ids(tok),
    )
    return tf.Qwen3VLForConditionalGeneration(config), qwen3_processor(tok, chatml(QWEN_IMAGE))


def qwen3_5() -> Parts:
    tok = tokenizer(QWEN_ROLES, "<|im_start|> <think> </think>")
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
    heads |= {"linear_key_head_dim": 16, "linear_value_head_dim": 16, "head_dim": 32}
    rope = mrope([2, 1, 1], mrope_interleaved=True, partial_rotary_factor=0.25)
    config = tf.Qwen3_5Config(
        text_config=text(tok, num_hidden_layers=4, rope_parameters=rope, **heads),
        vision_config=merging_tower(patch_size=16, num_position_embeddings=64),
        **qwen_ids(tok),
    )
    # only the generation prompt has a thinking block, earlier turns have none
    template = chatml(QWEN_IMAGE, generation="<|im_start|>assistant\n<think>\n\n</think>\n\n")
    return tf.Qwen3_5ForConditionalGeneration(config), qwen3_processor(tok, template)


SQUARE = {"height": 56, "width": 56}
CROP = {"size": {"shortest_edge": 56}, "crop_size": SQUARE}
PINPOINTS = [[56, 112], [112, 56], [112, 112]]


LLAVA_OPTIONS = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


def llava_settings(tok: Any) -> dict[str, Any]:
    towers = {"text_config": tf.LlamaConfig(**text(tok)), "vision_config": tf.CLIPVisionConfig(**tower())}
    return {**towers, "image_token_index": tok.image_token_id, "image_seq_length": 16}


def llava() -> Parts:
    tok = tokenizer({"image_token": "<image>"}, "", eos="</s>", bos="<s>")
    config = tf.LlavaConfig(vision_feature_layer=-2, vision_feature_select_strategy="default", **llava_settings(tok))
    template = Shape("USER: ", "<image>\n", " ", "ASSISTANT: ", " ").jinja()
    processor = tf.LlavaProcessor(tf.CLIPImageProcessor(**CROP), tok, chat_template=template, **LLAVA_OPTIONS)
    return tf.LlavaForConditionalGeneration(config), processor


def llava_next() -> Parts:
    tok = tokenizer({"image_token": "<image>"}, "", eos="</s>", bos="<s>")
    config = tf.LlavaNextConfig(image_grid_pinpoints=PINPOINTS, **llava_settings(tok))
    images = tf.LlavaNextImageProcessor(image_grid_pinpoints=PINPOINTS, **CROP)
    template = Shape("[INST] ", "<image>\n", " [/INST]", " ", "</s>", begin="<s>").jinja()
    processor = tf.LlavaNextProcessor(images, tok, chat_template=template, **LLAVA_OPTIONS)
    return tf.LlavaNextForConditionalGeneration(config), processor


def llava_onevision() -> Parts:
    tok = tokenizer({"image_token": "<image>", "video_token": "<video>"}, "<|im_start|>")
    config = tf.LlavaOnevisionConfig(
        text_config=tf.Qwen2Config(**text(tok)),
        vision_config=tf.SiglipVisionConfig(**tower(vision_use_head=False)),
        image_token_index=tok.image_token_id,
        video_token_index=tok.video_token_id,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_select_strategy="full",
    )
    processor = tf.LlavaOnevisionProcessor(
        tf.LlavaOnevisionImageProcessor(image_grid_pinpoints=PINPOINTS, size=SQUARE),
        tok,
        tf.LlavaOnevisionVideoProcessor(),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=chatml("<image>\n"),
    )
    return tf.LlavaOnevisionForConditionalGeneration(config), processor


def internvl() -> Parts:
    roles = {"start_image_token": "<img>", "end_image_token": "</img>"}
    roles |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tok = tokenizer(roles, "<|im_start|>")
    config = tf.InternVLConfig(
        text_config=tf.Qwen2Config(**text(tok)),
        vision_config=tf.InternVLVisionConfig(**tower(image_size=[56, 56], patch_size=[14, 14])),
        image_token_id=tok.context_image_token_id,
        image_seq_length=4,
    )
    processor = tf.InternVLProcessor(
        tf.GotOcr2ImageProcessor(size=SQUARE, max_patches=4, crop_to_patches=True),
        tok,
        tf.InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=chatml("<IMG_CONTEXT>\n"),
    )
    return tf.InternVLForConditionalGeneration(config), processor


IDEFICS_ROLES = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "end_of_utterance_token": "<end_of_utterance>",
    "global_image_token": "<global-img>",
}
IDEFICS_ROWS = " ".join(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7))
IDEFICS_SIZE = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}
IDEFICS_SHAPE = Shape(
    "User:", "<image>", "<end_of_utterance>\n", "Assistant: ", "<end_of_utterance>\n", begin="<|im_start|>"
)


def smolvlm() -> Parts:
    tok = tokenizer({**IDEFICS_ROLES, "video_token": "<video>"}, f"<|im_start|> {IDEFICS_ROWS}")
    config = tf.SmolVLMConfig(vision_config=tf.SmolVLMVisionConfig(**tower()), **idefics_settings(tok))
    images, videos = tf.SmolVLMImageProcessor(**IDEFICS_SIZE), tf.SmolVLMVideoProcessor()
    processor = tf.SmolVLMProcessor(images, tok, videos, image_seq_len=4, chat_template=IDEFICS_SHAPE.jinja())
    return tf.SmolVLMForConditionalGeneration(config), processor


def idefics3() -> Parts:
    tok = tokenizer(IDEFICS_ROLES, f"<|im_start|> {IDEFICS_ROWS}")
    config = tf.Idefics3Config(vision_config=tower(), **idefics_settings(tok))
    images = tf.Idefics3ImageProcessor(**IDEFICS_SIZE)
    processor = tf.Idefics3Processor(images, tok, image_seq_len=4, chat_template=IDEFICS_SHAPE.jinja())
    return tf.Idefics3ForConditionalGeneration(config), processor


def idefics_settings(tok: Any) -> dict[str, Any]:
    ids = {"image_token_id": tok.image_token_id, "pad_token_id": tok.pad_token_id}
    return {"text_config": tf.LlamaConfig(**text(tok)), "scale_factor": 2, **ids}


def gemma3() -> Parts:
    roles = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tok = tokenizer(roles, "<start_of_turn> <end_of_turn>", eos="<eos>", bos="<bos>")
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16, "head_dim": 16}
    config = tf.Gemma3Config(
        text_config=text(tok, query_pre_attn_scalar=16, **layers),
        vision_config=tower(),
        mm_tokens_per_image=4,
        image_token_index=tok.image_token_id,
        boi_token_index=tok.boi_token_id,
        eoi_token_index=tok.eoi_token_id,
    )
    end = "<end_of_turn>\n"
    template = Shape("<start_of_turn>user\n", "<start_of_image>", end, "<start_of_turn>model\n", end, begin="<bos>")
    images = tf.Gemma3ImageProcessor(size=SQUARE)
    processor = tf.Gemma3Processor(images, tok, image_seq_length=4, chat_template=template.jinja())
    return tf.Gemma3ForConditionalGeneration(config), processor


MOLMO_IDS = {
    "image_start_token_id": "<im_start>",
    "low_res_image_start_token_id": "<low_res_im_start>",
    "image_end_token_id": "<im_end>",
    "image_low_res_id": "<im_low>",
    "image_patch_id": "<im_patch>",
    "image_col_id": "<im_col>",
    "frame_start_token_id": "<frame_start>",
    "frame_end_token_id": "<frame_end>",
}


def molmo2() -> Parts:
    roles = {"image_token": "<|image|>", "video_token": "<|video|>"}
    tok = tokenizer(roles, "<|im_start|> " + " ".join(MOLMO_IDS.values()))
    tok.bos_token = "<|im_end|>"
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    adapter = {"vision_feature_layer": [-1, -2], "hidden_size": 32, "intermediate_size": 64, "text_hidden_size": 64}
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    config = tf.Molmo2Config(
        text_config=text(tok, head_dim=16, additional_vocab_size=0, rope_parameters=rope),
        vision_config={**tower(image_size=[56, 56]), **heads},
        adapter_config={**heads, **adapter},
        **{name: tok.convert_tokens_to_ids(token) for name, token in MOLMO_IDS.items()},
    )
    images = tf.Molmo2ImageProcessor(size=SQUARE, max_crops=2, overlap_margins=[1, 1])
    processor = tf.Molmo2Processor(images, tf.Molmo2VideoProcessor(), tok, chat_template=chatml("<|image|>"))
    return tf.Molmo2ForConditionalGeneration(config), processor


def glm4v() -> Parts:
    marks = ("image_start", "image_end", "video_start", "video_end")
    names = "<|begin_of_image|> <|end_of_image|> <|begin_of_video|> <|end_of_video|>"
    roles = {"image_token": "<|image|>", "video_token": "<|video|>"}
    tok = tokenizer(roles, f"{names} [gMASK] <sop> <|user|> <|assistant|>", eos="<|endoftext|>")
    ids = zip(marks, tok.convert_tokens_to_ids(names.split()), strict=True)
    config = tf.Glm4vConfig(
        text_config=text(tok, rope_parameters=mrope([1, 1, 2], partial_rotary_factor=0.5)),
        vision_config=merging_tower(image_size=56),
        image_token_id=tok.image_token_id,
        video_token_id=tok.video_token_id,
        **{f"{mark}_token_id": token_id for mark, token_id in ids},
    )
    image = "<|begin_of_image|><|image|><|end_of_image|>"
    template = Shape("<|user|>\n", image, "", "<|assistant|>\n", "", begin="[gMASK]<sop>").jinja()
    images, videos = image_processor("Glm4vImageProcessor", patches=(8, 96)), tf.Glm4vVideoProcessor()
    processor = tf.Glm4vProcessor(images, tok, videos, chat_template=template)
    return tf.Glm4vForConditionalGeneration(config), processor


def paligemma() -> Parts:
    tok = tokenizer({"image_token": "<image>"}, "", eos="<eos>", bos="<bos>")
    images = tf.SiglipImageProcessor(size=SQUARE)
    images.image_seq_length = 16
    # PaliGemma has no template of its own: its reply follows the line break, and an end token follows the reply
    template = Shape("", "<image>", "\n", "", "<eos>").jinja()
    processor = tf.PaliGemmaProcessor(images, tok, chat_template=template)
    config = tf.PaliGemmaConfig(
        text_config=tf.GemmaConfig(**text(tok, head_dim=16)),
        vision_config=tf.SiglipVisionConfig(**tower(vision_use_head=False)),
        image_token_index=tok.image_token_id,
        projection_dim=64,
        hidden_size=64,
    )
    return tf.PaliGemmaForConditionalGeneration(config), processor


FAMILIES: Mapping[str, Builder] = {
    family.__name__: family
    for family in (
        *(qwen2_vl, qwen2_5_vl, qwen3_vl, qwen3_5, llava, llava_next, llava_onevision),
        *(internvl, smolvlm, idefics3, gemma3, molmo2, glm4v, paligemma),
    )
}


def enlarge(model: Any) -> None:
    """Random weights of a size that keeps activations near one, and makes logits differ by several units."""
    for module in model.modules():
        is_embedding = isinstance(module, torch.nn.Embedding)
        for parameter in module.parameters(recurse=False):
            if parameter.dim() >= 2:
                scale = 0.4 if is_embedding else 1.2 / parameter[0].numel() ** 0.5
                parameter.data.normal_(0.0, scale)


def build(name: str, folder: Path, seed: int = 0) -> Path:
    """Save a family's random model and processor into ``folder``, and return it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, processor = FAMILIES[name]()
        enlarge(model)
    eos = processor.tokenizer.eos_token_id
    model.generation_config = tf.GenerationConfig(  # random text meets one of these words soon
        eos_token_id=[eos, *range(60, 90)], pad_token_id=processor.tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
