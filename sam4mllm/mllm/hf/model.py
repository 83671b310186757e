"""An `MLLM` from transformers: any causal image-text-to-text model with a chat template, and a LoRA adapter on it.

Decoding is greedy. What cannot work is refused in one line before any weights are read. Knows no family by name: what
differs between them follows from their configuration, image processor, chat template and cache.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig, ProcessorMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from sam4mllm.errors import UserError
from sam4mllm.language.dialects import dialect as dialect_named
from sam4mllm.language.dialects import dialect_for
from sam4mllm.language.notation import Dialect
from sam4mllm.mllm import Conversation, Images
from sam4mllm.mllm.adapter_card import Card
from sam4mllm.mllm.hf.adapter import adapted
from sam4mllm.mllm.hf.chat import HfChat, Speaker
from sam4mllm.mllm.hf.frames import Sight
from sam4mllm.mllm.hf.quantized import check_four_bits, four_bit_config
from sam4mllm.mllm.hf.rows import TemplateLengths, rows
from sam4mllm.mllm.hf.template import Template

log = logging.getLogger(__name__)


class HfMLLM:
    """A transformers model that can be talked to about pictures.

    Args:
        model: a causal image-text-to-text model, in evaluation mode.
        processor: its processor, with a chat template; a centre-cropping image processor is set to squash, and
            pictures are padded for it.
        dialect: how it writes places.
        max_new_tokens: where a reply is cut.
        kv_tokens: how many cached and new tokens one forward pass of `choose` may hold: its bound on memory.
        pack: whether the questions of `choose` may share a row, where the attention allows it; the numbers are the
            same.

    Raises:
        UserError: for a model that is not causal, or a processor without a chat template.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        dialect: Dialect,
        max_new_tokens: int = 512,
        kv_tokens: int = 65536,
        pack: bool = True,
    ) -> None:
        _refuse_encoder_decoder(model.config)
        self.model, self.processor, self._dialect = model, processor, dialect
        ends = model.generation_config.eos_token_id
        text = model.config.get_text_config(decoder=True)
        self._speaker = Speaker(
            model,
            Template(processor, ends if isinstance(ends, list) else [ends]),
            max_new_tokens,
            kv_tokens,
            # the others take no mask of our own
            pack and text._attn_implementation in ("sdpa", "eager"),
            text.to_dict().get("use_bidirectional_attention") is True,
        )
        self._sight = Sight(processor.image_processor, dialect.pixels)

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        adapter: str | Path | None = None,
        dialect: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        device_map: str | None = None,
        attention: str | None = None,
        four_bits: bool = False,
        max_new_tokens: int = 512,
        kv_tokens: int = 65536,
        pack: bool = True,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
    ) -> HfMLLM:
        """Load a model through the Auto classes.

        Args:
            name: a folder, or a name on the hub.
            adapter: a folder with a peft LoRA; its card is checked against the base, and names the dialect.
            dialect: how places are written; the adapter's or else the model type's own by default.
            dtype: of the weights, as transformers names it: auto, float32, bfloat16 ...
            device: where to put the model; CUDA if there is one by default.
            device_map: how to spread it over devices, in place of ``device``.
            attention: the attention implementation, as transformers names it; its choice by default.
            four_bits: packs the language model's weights, which a LoRA can be trained on; needs a GPU.
            max_new_tokens: where a reply is cut.
            kv_tokens: the bound on the tokens that one forward pass of `choose` may hold.
            pack: whether the questions of `choose` may share a row.
            trust_remote_code: whether to run code that comes with the model.
            chat_template: a Jinja text in place of the model's own; the one that the adapter was taught by default.

        Raises:
            UserError: for a model that is not found, not causal, not image-text-to-text or without a chat template;
                for an unknown dialect, dtype, device or attention, and an adapter that was made for another base.
        """
        place = _device(device)
        if four_bits:
            check_four_bits()
        if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise UserError(f"unknown dtype {dtype!r}: choose auto or one of torch's, such as float32 or bfloat16")
        spoken = None if dialect is None else dialect_named(dialect)
        config = _config(name, trust_remote_code)
        card = Card.read(Path(adapter or name))
        processor = _processor(name, trust_remote_code, chat_template or (card.chat_template if card else None))
        packed = {"quantization_config": four_bit_config(config, trust_remote_code)} if four_bits else {}
        spread = device_map or ({"": place} if four_bits else None)
        model = _model(name, config, dtype, spread, attention, trust_remote_code, **packed)
        if spread is None:
            model.to(place)
        if adapter is not None:
            model, card = adapted(model, Path(adapter))
            spoken = spoken or (dialect_named(card.dialect) if card else None)
        elif card is not None:
            card.warn_of_wording(Path(name))
        spoken = spoken or _own_dialect(config)
        return cls(model.eval(), processor, spoken, max_new_tokens, kv_tokens, pack)

    @classmethod
    def outline(
        cls,
        name: str | Path,
        *,
        dialect: str | None = None,
        dtype: str = "auto",
        attention: str | None = None,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
    ) -> HfMLLM:
        """A model without its weights, for which its configuration and its processor are enough: it tells how it sees
        pictures and how long texts are, and its parameters have names, shapes and types, but it cannot be asked.

        Args:
            name: as for `load`, and so the others.
            dialect: how places are written.
            dtype: of the weights.
            attention: what matters is only whether it is eager: no other one need be installed here.
            trust_remote_code: whether to run code that comes with the model.
            chat_template: a Jinja text in place of the model's own.

        Raises:
            UserError: as `load` does.
        """
        spoken = None if dialect is None else dialect_named(dialect)
        config = _config(name, trust_remote_code)
        processor = _processor(name, trust_remote_code, chat_template)
        held = (config.dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)
        how = {"attn_implementation": "eager"} if attention == "eager" else {}
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(
                config, dtype=held, trust_remote_code=trust_remote_code, **how
            )
        with suppress(OSError):  # which need not come with a model
            model.generation_config = GenerationConfig.from_pretrained(name)
        return cls(model.eval(), processor, spoken or _own_dialect(config))

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def lengths(self) -> TemplateLengths:
        """How many tokens texts, conversations and pictures are."""
        return TemplateLengths(self._speaker.template, self._sight)

    def open(self, images: Images, keys: Sequence[str] = ()) -> HfChat:  # noqa: ARG002  the protocol's
        """Begin one conversation per picture; each is encoded at its first question. ``keys`` do not matter."""
        return HfChat(self._speaker, [self._sight.prepare(image) for image in images], self._sight.frames(images))

    def rows(self, conversations: Sequence[Conversation]) -> dict[str, Tensor]:
        """A batch to train on: the model's inputs for pictures and what is said of each, with ``labels``.

        Every row holds the very tokens that asking would produce, padded on the right; labels are those of the replies
        and their ends, and -100 elsewhere.

        Raises:
            UserError: unless in each conversation user and assistant take turns, the assistant last.
        """
        pictures = [self._sight.prepare(image) for image, _ in conversations]
        turns = [turns for _, turns in conversations]
        return rows(self._speaker.template, pictures, turns, self._speaker.prefix_lm)


def _own_dialect(config: Any) -> Dialect:
    """The dialect that a configuration names as ``sam4mllm_dialect``, else that of its model type."""
    named = config.to_dict().get("sam4mllm_dialect")
    return dialect_for(config.model_type) if named is None else dialect_named(named)


def _device(name: str | None) -> torch.device:
    try:
        # of processes that train together each has its own GPU, by the launcher's number
        own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        device = torch.device(name or (own if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}: give cpu, cuda, cuda:1 ...") from error
    if device.type == "meta":
        raise UserError("the device meta holds no weights: give cpu, cuda, cuda:1 ...")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"no device {name!r} on this machine: torch finds no CUDA")
    return device


def _config(name: str | Path, trust: bool) -> Any:
    """The configuration of a model that can work.

    Raises:
        UserError: for one that cannot.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise UserError(f"no model {str(name)!r}: give a folder or a name on the hub ({_first_line(error)})") from error
    _refuse_encoder_decoder(config)
    remote = trust and "AutoModelForImageTextToText" in getattr(config, "auto_map", {})
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not remote:
        raise UserError(f"the model {str(name)!r} ({config.model_type}) does not turn images and text to text")
    return config


def _refuse_encoder_decoder(config: Any) -> None:
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        raise UserError(f"a model of type {config.model_type} is an encoder-decoder: only causal models can be asked")


def _processor(name: str | Path, trust: bool, chat_template: str | None) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=trust)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"the model {str(name)!r} has no processor that loads: {_first_line(error)}") from error
    if not isinstance(processor, ProcessorMixin):
        raise UserError(f"the model {str(name)!r} has no processor of images, only a {type(processor).__name__}")
    if chat_template:
        processor.chat_template = chat_template
    return processor


def _model(
    name: str | Path, config: Any, dtype: str, device_map: Any, attention: str | None, trust: bool, **packed: Any
) -> Any:
    try:
        model, info = AutoModelForImageTextToText.from_pretrained(
            name,
            config=config,
            dtype=dtype,
            device_map=device_map,
            attn_implementation=attention,
            trust_remote_code=trust,
            output_loading_info=True,
            **packed,
        )
    # no weights, an attention that is unknown or missing; weights of other shapes; damaged ones
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"the model {str(name)!r} does not load: {_first_line(error)}") from error
    if info["missing_keys"]:  # they would be random, and so would every reply
        raise UserError(f"the model {str(name)!r} lacks weights: {min(info['missing_keys'])}, for one")
    return model


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
