"""Memory of a training step of each recipe, as `--plan` estimates it, for models without weights.

    python benchmarks/recipe_memory.py    the table of docs/finetune.md

Model sizes and tokens per image are from memory, not from the models' configurations and processors. Missing sizes are
the defaults of the class. Rows have the maximum length of the recipe: its token budget of text, and an image of 640 x
480. `--plan` on a model's folder does not need this table.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as tf

from sam4mllm.runtime.settings import load
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.memory import Memory, estimate_shape

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
HEADS_OF_128 = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
LLAMA3_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, **HEADS_OF_128}
QWEN3_8B = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, **HEADS_OF_128}
QWEN25_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
SMOLLM2 = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 64,
}
GEMMA = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
GEMMA3_4B = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024, **GEMMA}
GEMMA2_2B = {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, **GEMMA}
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}


def siglip(size: int) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "vision_use_head": False,
        "image_size": size,
        "patch_size": 14,
        **SIGLIP,
    }


def turned(sections: list[int], **changes: Any) -> dict[str, Any]:
    """Multimodal RoPE parameters with the given sections for time, height and width."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections, **changes}}


def qwen_vision(hidden: int, inner: int, depth: int, out: int, **changes: Any) -> dict[str, Any]:
    size = {"hidden_size": hidden, "intermediate_size": inner, "depth": depth, "num_heads": 16, "out_hidden_size": out}
    return {**size, **changes}


# by the prefix of a recipe's `mllm`: a configuration, and the tokens of an image of 640 x 480
MODELS: Mapping[str, tuple[Any, int]] = {
    "llava-hf/": (
        # 36 rows of 48 patches and a row-end token, and the thumbnail in 24 x 24
        tf.LlavaNextConfig(text_config={"model_type": "llama", "vocab_size": 128320, **LLAMA3_8B}),
        36 * 49 + 24 * 24,
    ),
    "Qwen/Qwen2.5-VL": (
        tf.Qwen2_5_VLConfig(
            text_config={"vocab_size": 152064, **QWEN25_7B, **turned([16, 24, 24])},
            vision_config=qwen_vision(1280, 3420, 32, 3584, fullatt_block_indexes=[7, 15, 23, 31]),
        ),
        23 * 17,
    ),
    "Qwen/Qwen3-VL": (
        tf.Qwen3VLConfig(
            text_config={"vocab_size": 151936, **QWEN3_8B, **turned([24, 20, 20], mrope_interleaved=True)},
            vision_config=qwen_vision(1152, 4304, 27, 4096, deepstack_visual_indexes=[8, 16, 24]),
        ),
        20 * 15,
    ),
    "OpenGVLab/": (
        tf.InternVLConfig(
            text_config={"model_type": "qwen2", "vocab_size": 151674, **QWEN25_7B}, tie_word_embeddings=False
        ),
        (4 * 3 + 1) * 256,
    ),
    "HuggingFaceTB/": (
        tf.SmolVLMConfig(
            text_config={"model_type": "llama", "vocab_size": 49280, **SMOLLM2},
            vision_config={"image_size": 384, "patch_size": 14, **SIGLIP},
            scale_factor=3,
        ),
        (4 * 3 + 1) * 81 + 30,  # and separators between tiles
    ),
    "google/gemma-3": (
        tf.Gemma3Config(text_config={"vocab_size": 262208, **GEMMA3_4B}, vision_config=siglip(896)),
        256,
    ),
    "google/paligemma2": (
        tf.PaliGemmaConfig(
            text_config={"model_type": "gemma2", "vocab_size": 257216, **GEMMA2_2B},
            vision_config=siglip(448),
            projection_dim=2304,
        ),
        1024,
    ),
    "allenai/Molmo2": (
        tf.Molmo2Config(
            text_config={"vocab_size": 151936, **QWEN3_8B},
            adapter_config={"text_hidden_size": 4096, "intermediate_size": 12288},
        ),
        766,
    ),
}


def outlined(config: Any) -> Any:
    with torch.device("meta"):
        return tf.AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)


def gib(memory: Memory) -> str:
    parts = (memory.weights, memory.trained + memory.gradients + memory.moments, memory.activations + memory.passing)
    return " | ".join(f"{part / 2**30:.1f}" for part in (*parts, memory.peak))


def main() -> None:
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
    print("| recipe | parameters | trained | tokens | weights | trained weights | activations, head | peak |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for path in sorted(RECIPES.glob("*.yaml")):
        if path.stem == "fsdp":
            continue
        recipe = load(path, FinetuneConfig)
        config, image_tokens = next(entry for prefix, entry in MODELS.items() if recipe.mllm.startswith(prefix))
        tokens = recipe.rows.tokens + image_tokens
        shape = estimate_shape(outlined(config), recipe.training, tokens)
        trained = sum(shape.trained.values())
        counts = f"{shape.parameters / 1e9:.2f}e9 | {trained / 1e6:.0f}e6 | {tokens:,}"
        print(f"| `{path.stem}` | {counts} | {gib(shape.memory)} |", flush=True)


if __name__ == "__main__":
    main()
