"""Error of the memory estimate of `--plan`, compared with two real training steps on a CPU.

    python benchmarks/plan_memory.py

Uses small random models of real classes with twelve layers and wide MLPs, so that activations matter. The measured
memory is the model plus the peak of torch's allocator, from torch's profiler. On a CPU the output head scores all
tokens and copies each tile, unlike the kernels of a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from sam4mllm.language.messages import Turn
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.training.config.training import Lora, Training
from sam4mllm.training.memory import estimate_shape
from sam4mllm.training.trainer import finetune
from tests.families import FAMILIES

CLASSES = ("llava", "qwen2_5_vl", "internvl", "smolvlm")
WAYS = {
    "float32": Training(
        max_steps=2, per_device_train_batch_size=1, gradient_accumulation_steps=2, lora=Lora(r=32, lora_alpha=32)
    ),
    "float32, dropout": Training(
        max_steps=2,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        lora=Lora(r=32, lora_alpha=32, lora_dropout=0.05),
    ),
    "float32, checkpointing": Training(
        max_steps=2,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        lora=Lora(r=32, lora_alpha=32),
        gradient_checkpointing=True,
    ),
    "bfloat16, batch of 2": Training(
        max_steps=2, per_device_train_batch_size=2, lora=Lora(r=32, lora_alpha=32), bf16=True
    ),
    "bfloat16, checkpointing": Training(
        max_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        lora=Lora(r=32, lora_alpha=32),
        bf16=True,
        gradient_checkpointing=True,
    ),
}


def save_model(name: str, folder: Path) -> Path:
    model, processor = FAMILIES[name]()
    config = model.config
    text = config.get_text_config()
    text.num_hidden_layers, text.intermediate_size, text.layer_types = 12, 1024, None
    type(model)(config.__class__.from_dict(config.to_dict())).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def peak_memory(mllm: HfMLLM, training: Training, out: Path, turns: list[Turn]) -> int:
    """The bytes of the model plus the peak that training allocated."""
    image = np.full((60, 80, 3), 90, np.uint8)
    model: int = sum(
        tensor.numel() * tensor.element_size() for tensor in [*mllm.model.parameters(), *mllm.model.buffers()]
    )
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        finetune(mllm, lambda _: (image, turns), training, out)
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    allocated = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return model + int(allocated.max())


def compare(name: str, folder: Path) -> None:
    base = save_model(name, folder / name)
    for way, training in WAYS.items():
        dtype = way.split(",")[0]
        mllm = HfMLLM.load(base, device="cpu", dtype=dtype)
        turns = [Turn("user", "Where is the cat? " * 20), Turn("assistant", "[100,200,300,400] " * 20)]
        tokens = mllm.lengths.conversation(turns)[0] + mllm.lengths.count_image_tokens(80, 60)
        estimate = estimate_shape(HfMLLM.outline(base, dtype=dtype).model, training, tokens).memory.peak
        measured = peak_memory(mllm, training, folder / f"{name} {way}", turns)
        print(
            f"| {name} | {way} | {tokens} | {estimate / 2**20:.0f} | {measured / 2**20:.0f} "
            f"| {estimate / measured - 1:+.0%} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", nargs="*", default=CLASSES, choices=CLASSES)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
    print("| class | way | tokens | estimate, MiB | measured, MiB | error |\n|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.classes:
            compare(name, Path(folder))


if __name__ == "__main__":
    main()
