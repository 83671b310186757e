"""Speed of PQPP's point questions with a cached prefix, compared with two methods without a cache.

    python benchmarks/questions.py [--points 9 25 49 81] [--sides 40 120 184] [--chart docs/questions.svg]
    python benchmarks/questions.py --device cuda --dtype bfloat16 --hidden 2560 --layers 28 --heads 20

All methods use the same image, phrase and first turn (the box), and a model with random weights:

- ours: `HfChat.choose` after the first turn with its prefix cached, from question texts to probabilities;
- list: the official method, one question that lists all points, after a full prefill of image, first turn and list;
  transformers' `generate` then generates as many tokens as the answers have;
- separate: one full forward pass of image, first turn and question per point; its P(yes) must equal ours. A cache
  can speed it up at most by (prefix + question) / question, in tokens ("bound").

Inputs of the other two methods are prepared before timing; ours includes rendering and tokenizing the questions.
Methods alternate, and the best round counts: CPU seconds on a CPU, wall-clock seconds on a GPU. At most 16 separate
passes are timed and scaled up. "apart" is the largest difference between our probabilities and those of the separate
passes. In 16 bits the order of a sum changes its result, so "off" gives the mean distance of both from a float32 copy
of the model. Exits with 1 if a probability differs (in 16 bits: if ours are off by more than 1.5 times theirs), or if
the largest number of points misses a goal: half of the bound against separate questions, and not slower than the list.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from chart import curves
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig
from transformers import PreTrainedTokenizerFast as FastTokenizer

from sam4mllm.geometry.prompts import Box, Frame, Image
from sam4mllm.language.dialects import dialect
from sam4mllm.language.messages import Turn
from sam4mllm.language.templates import YES_NO, ask_boxes, ask_point, ask_points, format_boxes, format_labels
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.hf.rows import IGNORE_LABEL
from sam4mllm.prompters.points import Layout
from sam4mllm.runtime.specs import EMBEDDED
from tiny_models.model import PATCH, SPECIAL, TEMPLATE

ROW = dialect("sam4mllm")
PHRASE = "the red ring on the left"
BOX = Box(20, 30, 80, 90)
TOLERANCE = 1e-4  # in float32
DTYPES = ("float32", "bfloat16", "float16")
SEPARATE = 16  # separate passes that are timed


@dataclass(frozen=True)
class PointTiming:
    """Seconds of each method for one number of points, and the differences of the probabilities."""

    prefix: int
    question: float
    ours: float
    listed: float
    separate: float
    difference: float
    spread: float
    off: tuple[float, float] | None

    @property
    def equal(self) -> bool:
        return self.difference <= TOLERANCE if self.off is None else self.off[0] <= 1.5 * self.off[1]

    @property
    def bound(self) -> float:
        return (self.prefix + self.question) / self.question

    @property
    def gains(self) -> tuple[float, float]:
        return self.separate / self.ours, self.listed / self.ours


def tokenizer() -> FastTokenizer:
    """A tokenizer that splits words, digits and punctuation as large models do, trained on our own questions."""
    frame = Frame.unscaled(112, 112)
    points = Layout("grid", 81).place(BOX)
    texts = [ask_boxes(PHRASE, ROW), format_boxes([BOX], PHRASE, ROW, frame), format_labels([True, False])]
    texts += [ask_points(points, PHRASE, ROW, frame), *(ask_point(point, PHRASE, ROW, frame) for point in points)]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|\d|\s|[^\sA-Za-z\d]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts, trainers.BpeTrainer(special_tokens=[*SPECIAL], initial_alphabet=alphabet, show_progress=False)
    )
    roles = {"image_token": "<image>", "user_token": "<user>", "reply_token": "<reply>"}
    return FastTokenizer(tokenizer_object=core, pad_token="<pad>", eos_token="<end>", extra_special_tokens=roles)


def built(side: int, options: argparse.Namespace) -> HfMLLM:
    """An MLLM of the tiny model's class with random weights, another language model, and images of ``side`` pixels."""
    tokens, template_processor = tokenizer(), AutoProcessor.from_pretrained(EMBEDDED / "mllm")
    template_processor.image_processor.size = {"height": side, "width": side}
    processor = type(template_processor)(
        image_processor=template_processor.image_processor,
        tokenizer=tokens,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    )
    config = AutoConfig.from_pretrained(EMBEDDED / "mllm")
    config.vision_config.image_size, config.image_seq_length = side, (side // PATCH) ** 2
    config.image_token_index = config.image_token_id = tokens.convert_tokens_to_ids("<image>")
    ends = {"pad_token_id": tokens.pad_token_id, "eos_token_id": tokens.eos_token_id}
    config.text_config.update(
        {
            "vocab_size": len(tokens),
            "hidden_size": options.hidden,
            "intermediate_size": options.hidden * 8 // 3,
            "num_hidden_layers": options.layers,
            "num_attention_heads": options.heads,
            "num_key_value_heads": options.heads,
            "layer_types": ["full_attention"] * options.layers,
            "max_position_embeddings": 8192,
            "initializer_range": 2.5 / options.hidden**0.5,  # with the usual range all probabilities would be equal
            **ends,
        }
    )
    torch.manual_seed(0)
    with torch.device(options.device):  # initialises billions of weights quickly on a GPU
        model = AutoModelForImageTextToText.from_config(config, dtype=getattr(torch, options.dtype))
    model.generation_config = GenerationConfig(**ends)
    return HfMLLM(model.eval(), processor, ROW, max_new_tokens=1)


def conversation(*texts: str) -> list[Turn]:
    """Alternating turns of user and assistant."""
    return [Turn("assistant" if turn % 2 else "user", text) for turn, text in enumerate(texts)]


def cut(mllm: HfMLLM, image: Image, texts: Sequence[str]) -> dict[str, Any]:
    """The model's inputs for a conversation up to the start of its last reply."""
    inputs = mllm.rows([(image, conversation(*texts))])
    labels = inputs.pop("labels")[0].tolist()
    begins = len(labels)
    while labels[begins - 1] != IGNORE_LABEL:
        begins -= 1
    inputs_to_reply = {
        name: value[:, :begins] if value.shape[1:2] == (len(labels),) else value for name, value in inputs.items()
    }
    return {name: value.to(mllm.model.device) for name, value in inputs_to_reply.items()}


class QuestionCase:
    """One image with its first turn and questions about ``points`` points."""

    def __init__(self, mllm: HfMLLM, image: Image, points: int) -> None:
        self.mllm, self.model = mllm, mllm.model
        [frame] = mllm.open([image]).frames
        points_to_ask, first = Layout("grid", points).place(BOX), ask_boxes(PHRASE, ROW)
        reply = format_boxes([BOX], PHRASE, ROW, frame)
        self.chat = mllm.open([image])
        self.chat.answer([first])
        # a random model generates noise that is no valid text, so the reply with the box is inserted
        self.chat._rows[0].tail = mllm._speaker.template.reply(reply)
        before = (first, reply)
        self.texts = [ask_point(point, PHRASE, ROW, frame) for point in points_to_ask]
        self.full = [cut(mllm, image, (*before, text, YES_NO[0])) for text in self.texts]
        self.list = cut(mllm, image, (*before, ask_points(points_to_ask, PHRASE, ROW, frame), "Yes"))
        ids = mllm.processor.tokenizer
        self.answers = len(ids(format_labels([True] * points), add_special_tokens=False)["input_ids"]) + 1
        self.yes_no = [ids(option, add_special_tokens=False)["input_ids"][0] for option in YES_NO]
        prefix_tokens = (
            mllm.rows([(image, conversation(*before))])["input_ids"].shape[1] - 1
        )  # without the token that ends the reply
        self.prefix = prefix_tokens
        self.question = float(np.mean([inputs["input_ids"].shape[1] for inputs in self.full])) - prefix_tokens

    def ours(self) -> np.ndarray:
        [result] = self.chat.choose([self.texts], YES_NO)
        return result[:, 0]

    @torch.inference_mode()
    def listed(self) -> None:
        generation = {"max_new_tokens": self.answers, "min_new_tokens": self.answers, "do_sample": False}
        output = self.model.generate(**self.list, **generation)
        assert output.shape[1] == self.list["input_ids"].shape[1] + self.answers

    @torch.inference_mode()
    def separate(self, count: int | None = None, model: Any = None) -> np.ndarray:
        result = []
        for inputs in self.full[:count]:
            logits = (model or self.model)(**inputs, logits_to_keep=1, use_cache=False).logits[0, -1].float()
            result.append(logits[self.yes_no].softmax(dim=-1)[0].item())
        return np.array(result)


def score_differences(case: QuestionCase, exact: Any, rounds: int, clock: Callable[[], float]) -> PointTiming:
    """Times the methods in turn after one warm-up each; ``exact`` is a float32 copy of a 16-bit model, or None."""
    points = len(case.texts)
    ours, separate = case.ours(), case.separate()
    off = None
    if exact is not None:
        reference = case.separate(model=exact)
        off = float(np.abs(ours - reference).mean()), float(np.abs(separate - reference).mean())
    case.listed()
    timed_count = min(points, SEPARATE)
    ways: Mapping[str, tuple[Callable[[], object], float]] = {
        "ours": (case.ours, 1.0),
        "listed": (case.listed, 1.0),
        "separate": (lambda: case.separate(timed_count), points / timed_count),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, (way, times) in ways.items():
            start = clock()
            way()
            best[name] = min(best[name], (clock() - start) * times)
    difference = float(np.abs(ours - separate).max())
    return PointTiming(case.prefix, case.question, **best, difference=difference, spread=float(ours.std()), off=off)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[9, 25, 49, 81])
    parser.add_argument("--sides", type=int, nargs="+", default=[40, 120, 184], help="side of the image, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=14)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--chart", type=Path, help="SVG file for the ratios")
    return parser.parse_args()


def main() -> None:
    options = parse_options()

    def clock() -> float:
        if options.device == "cpu":
            return process_time()
        torch.cuda.synchronize()
        return perf_counter()

    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    lines: dict[str, list[tuple[float, float]]] = {}
    missed = []
    for side in options.sides:
        mllm = built(side, options)
        exact = None if options.dtype == "float32" else copy.deepcopy(mllm.model).float()
        if not lines:
            heading(mllm, options)
        for points in options.points:
            case = QuestionCase(mllm, image, points)
            result = score_differences(case, exact, options.rounds, clock)
            show(points, result)
            for name, gain in zip(("separate", "a list *"), result.gains, strict=True):
                lines.setdefault(f"{result.prefix}, {name}", []).append((points, gain))
            if not result.equal:
                missed.append(f"{points} points over {result.prefix}: probabilities {result.difference:.1e} apart")
            if points == max(options.points) and (result.gains[0] < result.bound / 2 or result.gains[1] < 1):
                missed.append(f"{points} points over {result.prefix}: too slow")
        del mllm, exact
    if options.chart:
        options.chart.write_text(curves(lines, ("points", "times as fast as (tokens of prefix, method)"), log=True))
    print("\n" + ("; ".join(missed) or "the same probabilities, and both goals met"))
    raise SystemExit(bool(missed))


def heading(mllm: HfMLLM, options: argparse.Namespace) -> None:
    count = sum(weights.numel() for weights in mllm.model.parameters())
    where = torch.cuda.get_device_name() if options.device != "cpu" else f"{torch.get_num_threads()} thread(s)"
    print(f"{count / 1e6:.1f} million weights, {options.dtype}, {where}\n")
    print(
        "| prefix | question | points | ours, ms | list, ms | separate, ms | separate / ours | bound | list / ours ",
        end="",
    )
    off = "" if options.dtype == "float32" else " ours off | theirs off |"
    print(f"| P(yes) apart | P(yes) spread |{off}\n|" + "---:|" * (11 if not off else 13))


def show(points: int, result: PointTiming) -> None:
    seconds = " | ".join(f"{1000 * value:.0f}" for value in (result.ours, result.listed, result.separate))
    gains = f"{result.gains[0]:.1f} | {result.bound:.1f} | {result.gains[1]:.1f}"
    print(f"| {result.prefix} | {result.question:.1f} | {points} | {seconds} | {gains} ", end="")
    off = "" if result.off is None else " {:.3f} | {:.3f} |".format(*result.off)
    print(f"| {result.difference:.0e} | {result.spread:.2f} |{off}", flush=True)


if __name__ == "__main__":
    main()
