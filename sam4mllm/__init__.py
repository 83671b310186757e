"""Referring expression segmentation with off-the-shelf multimodal LLMs, which write prompts for a segmenter as text.

Importing this package is cheap: each public name is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "AdaptivePQPP": "prompters.adaptive",
    "Answer": "pipeline",
    "Box": "geometry.prompts",
    "BoxPrompter": "prompters.box",
    "BoxSegmenter": "segmenters.box",
    "Capabilities": "segmenters",
    "Chat": "mllm",
    "Dialect": "language.notation",
    "Frame": "geometry.prompts",
    "GrabCutSegmenter": "segmenters.grabcut",
    "HfMLLM": "mllm.hf.model",
    "HfSegmenter": "segmenters.hf",
    "MLLM": "mllm",
    "MLLMSpec": "mllm.load",
    "Oracle": "prompters.oracle",
    "PPG": "prompters.ppg",
    "PQPP": "prompters.pqpp",
    "Pipeline": "pipeline",
    "PipelineConfig": "config",
    "Point": "geometry.prompts",
    "PointAnswer": "prompters",
    "Prompt": "geometry.prompts",
    "Prompter": "prompters",
    "PrompterSpec": "prompters.load",
    "Prompting": "prompters",
    "Query": "prompters",
    "Reply": "language.messages",
    "Rle": "geometry.rle",
    "SamSegmenter": "segmenters.sam",
    "Scene": "segmenters",
    "ScoredMask": "segmenters",
    "ScriptedMLLM": "mllm.scripted",
    "Segmenter": "segmenters",
    "SegmenterSpec": "segmenters.load",
    "Turn": "language.messages",
    "UserError": "errors",
    "read_predictions": "prediction.record",
    "read_samples": "data.samples",
}

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sam4mllm' has no attribute {name!r}")
    return getattr(import_module(f"sam4mllm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
