"""GPU memory of a training step of a model with 8 billion weights, compared with the estimate of `--plan`.

    python benchmarks/large_memory.py [--recipes qwen2.5-vl-7b_ppg qwen2.5-vl-7b_ppg_pqpp_24gb] [--layers 28]

The model has the size of the recipe's base, random weights, and the small processor of the tests. It is saved and
loaded as the recipe specifies, in 16 or 4 bits. Rows have the maximum length of the recipe and an image of 640 x 480.
"allocated" is the peak of memory that torch allocated, "reserved" the peak that it reserved, both including loading.
At the end the adapter is loaded on the base in 16 bits.
"""

from __future__ import annotations

import argparse
import copy
import gc
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import transformers as tf
from recipe_memory import MODELS, RECIPES

from sam4mllm.language.messages import Turn
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.runtime.settings import load
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.config.training import Training
from sam4mllm.training.memory import estimate_shape
from sam4mllm.training.trainer import finetune
from tests.families import FAMILIES, QWEN_ROLES

PICTURE = np.full((480, 640, 3), 90, np.uint8)
SIZES = {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 1280}
STEPS = 3


def save_model(folder: Path, layers: int, device: str) -> Path:
    """Saves a model of the recipes' size with the token ids of the small processor; returns its folder."""
    _, processor = FAMILIES["qwen2_5_vl"]()
    processor.image_processor.size = SIZES
    tokenizer, config = processor.tokenizer, copy.deepcopy(MODELS["Qwen/Qwen2.5-VL"][0])
    config.text_config.num_hidden_layers, config.text_config.layer_types = layers, ["full_attention"] * layers
    config.update({f"{role}_id": tokenizer.convert_tokens_to_ids(token) for role, token in QWEN_ROLES.items()})
    torch.manual_seed(0)
    with torch.device(device):
        model = tf.AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.generation_config = tf.GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def longest_conversation(mllm: HfMLLM, tokens: int) -> list[Turn]:
    """The longest conversation of at most ``tokens`` tokens, about a fifth of them the assistant's."""
    question_text, reply_text = "Where is the cat? ", "[100,200,300,400] "
    longest: list[Turn] = []
    for times in range(1, tokens):
        turns = [Turn("user", question_text * times), Turn("assistant", reply_text * (times // 8 + 1))]
        if mllm.lengths.conversation(turns)[0] > tokens:
            break
        longest = turns
    return longest


def compare(name: str, base: Path, out: Path, device: str) -> None:
    recipe = load(RECIPES / f"{name}.yaml", FinetuneConfig)
    training = replace(
        recipe.training,
        max_steps=STEPS,
        num_train_epochs=None,
        gradient_accumulation_steps=min(2, recipe.training.gradient_accumulation_steps),
    )
    torch.cuda.reset_peak_memory_stats()
    packed = training.quantize is not None
    mllm = HfMLLM.load(base, device=device, dtype=recipe.dtype, four_bits=packed)
    loaded = torch.cuda.memory_allocated()
    longest = longest_conversation(mllm, recipe.rows.tokens)
    tokens = mllm.lengths.conversation(longest)[0] + mllm.lengths.count_image_tokens(640, 480)
    start = perf_counter()
    finetune(mllm, lambda _: (PICTURE, longest), training, out)
    seconds = (perf_counter() - start) / STEPS / training.gradient_accumulation_steps
    allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    estimated = estimate_memory(base, recipe.dtype, training, tokens)
    gib = " | ".join(f"{part / 2**30:.1f}" for part in (estimated[0], loaded, estimated[1], allocated, reserved))
    print(f"| `{name}` | {tokens:,} | {gib} | {seconds:.1f} |", flush=True)
    del mllm
    gc.collect()
    torch.cuda.empty_cache()


def estimate_memory(base: Path, dtype: str, training: Training, tokens: int) -> tuple[int, int]:
    memory = estimate_shape(HfMLLM.outline(base, dtype=dtype).model, training, tokens).memory
    return memory.weights, memory.peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["qwen2.5-vl-7b_ppg", "qwen2.5-vl-7b_ppg_pqpp_24gb"]
    parser.add_argument("--recipes", nargs="+", default=names, choices=[*names, "qwen2.5-vl-7b_pqpp"])
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU: nothing was measured")
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
    print("| GiB | tokens | weights, estimate | loaded | peak, estimate | allocated | reserved | seconds per row |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        base = save_model(Path(folder) / "base", options.layers, options.device)
        gc.collect()
        torch.cuda.empty_cache()
        for name in options.recipes:
            compare(name, base, Path(folder) / name, options.device)
        last = Path(folder) / options.recipes[-1]
        HfMLLM.load(base, adapter=last, device=options.device, dtype="bfloat16")
        print(f"\nthe adapter of {last.name} loads on the base in 16 bits")


if __name__ == "__main__":
    main()
