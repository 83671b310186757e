"""An `MLLM` for transformers: any causal image-text-to-text model with a chat template, optionally with a LoRA adapter.

Decoding is greedy. Unsupported models are refused before any weights are read. No model family is named here:
differences follow from the configuration, image processor, chat template and cache.
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
from sam4mllm.mllm import Images, ImageTurns
from sam4mllm.mllm.adapter_card import AdapterCard
from sam4mllm.mllm.hf.adapter import insert_adapter
from sam4mllm.mllm.hf.chat import ChatModel, HfChat
from sam4mllm.mllm.hf.frames import ImagePreprocessor
from sam4mllm.mllm.hf.quantized import check_four_bits, four_bit_config
from sam4mllm.mllm.hf.rows import TokenCounts, rows
from sam4mllm.mllm.hf.template import Template

log = logging.getLogger(__name__)


class HfMLLM:
    """A transformers model that answers questions about images.

    Args:
        model: a causal image-text-to-text model, in evaluation mode.
        processor: its processor, with a chat template. If its image processor crops the centre, it is set to resize
            instead, and images are padded to a square.
        dialect: the notation of places.
        max_new_tokens: the maximum length of a reply.
        kv_tokens: the maximum number of cached and new tokens in one forward pass of `choose`; it bounds memory.
        pack: whether `choose` may pack questions into one row if the attention supports it. The results are the same.

    Raises:
        UserError: if the model is not causal, or the processor has no chat template.
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
        end_ids = model.generation_config.eos_token_id
        text_config = model.config.get_text_config(decoder=True)
        self._speaker = ChatModel(
            model,
            Template(processor, end_ids if isinstance(end_ids, list) else [end_ids]),
            max_new_tokens,
            kv_tokens,
            # the other implementations accept no custom mask
            pack and text_config._attn_implementation in ("sdpa", "eager"),
            text_config.to_dict().get("use_bidirectional_attention") is True,
        )
        self._sight = ImagePreprocessor(processor.image_processor, dialect.pixels)

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
            adapter: a folder with a peft LoRA. Its card is checked against the base and sets the dialect.
            dialect: the notation of places; by default that of the adapter or, without one, of the model type.
            dtype: of the weights, as transformers names it: auto, float32, bfloat16 ...
            device: a torch device; CUDA if available by default.
            device_map: how to distribute the model over devices, instead of ``device``.
            attention: the attention implementation, as transformers names it; by default transformers chooses.
            four_bits: whether to quantize the language model's weights to 4 bits, for training a LoRA on a GPU.
            max_new_tokens: the maximum length of a reply.
            kv_tokens: the maximum number of tokens in one forward pass of `choose`.
            pack: whether `choose` may pack questions into one row.
            trust_remote_code: whether to run code that ships with the model.
            chat_template: a Jinja template that replaces the model's own; by default the one the adapter was trained
                with.

        Raises:
            UserError: if the model is not found, not causal, not image-text-to-text or has no chat template; if the
                dialect, dtype, device or attention is unknown; if the adapter was trained on another base.
        """
        target_device = _device(device)
        if four_bits:
            check_four_bits()
        if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise UserError(f"unknown dtype {dtype!r}: choose auto or one of torch's, such as float32 or bfloat16")
        parsed_dialect = None if dialect is None else dialect_named(dialect)
        config = _config(name, trust_remote_code)
        card = AdapterCard.read(Path(adapter or name))
        processor = _processor(name, trust_remote_code, chat_template or (card.chat_template if card else None))
        quantization = {"quantization_config": four_bit_config(config, trust_remote_code)} if four_bits else {}
        distribution = device_map or ({"": target_device} if four_bits else None)
        model = _model(name, config, dtype, distribution, attention, trust_remote_code, **quantization)
        if distribution is None:
            model.to(target_device)
        if adapter is not None:
            model, card = insert_adapter(model, Path(adapter))
            parsed_dialect = parsed_dialect or (dialect_named(card.dialect) if card else None)
        elif card is not None:
            card.warn_if_wording_differs(Path(name))
        parsed_dialect = parsed_dialect or _default_dialect(config)
        return cls(model.eval(), processor, parsed_dialect, max_new_tokens, kv_tokens, pack)

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
        """The model without its weights, from its configuration and processor alone.

        It gives the frames of images, the lengths of texts, and the names, shapes and types of parameters. It cannot
        generate replies.

        Args:
            name: as for `load`, like the other arguments.
            dialect: the notation of places.
            dtype: of the weights.
            attention: only whether it is eager matters; another implementation need not be installed here.
            trust_remote_code: whether to run code that ships with the model.
            chat_template: a Jinja template that replaces the model's own.

        Raises:
            UserError: as `load` does.
        """
        parsed_dialect = None if dialect is None else dialect_named(dialect)
        config = _config(name, trust_remote_code)
        processor = _processor(name, trust_remote_code, chat_template)
        weight_dtype = (config.dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)
        attention_option = {"attn_implementation": "eager"} if attention == "eager" else {}
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(
                config, dtype=weight_dtype, trust_remote_code=trust_remote_code, **attention_option
            )
        with suppress(OSError):  # a model need not ship one
            model.generation_config = GenerationConfig.from_pretrained(name)
        return cls(model.eval(), processor, parsed_dialect or _default_dialect(config))

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def lengths(self) -> TokenCounts:
        """The token counts of texts, conversations and images."""
        return TokenCounts(self._speaker.template, self._sight)

    def open(self, images: Images, keys: Sequence[str] = ()) -> HfChat:  # noqa: ARG002  required by the protocol
        """Start one conversation per image. Images are encoded at their first question; ``keys`` is ignored."""
        return HfChat(self._speaker, [self._sight.prepare(image) for image in images], self._sight.frames(images))

    def rows(self, conversations: Sequence[ImageTurns]) -> dict[str, Tensor]:
        """A training batch: the model's inputs for images with their conversations, and ``labels``.

        Rows are padded on the right and hold exactly the tokens that a chat would produce. Labels are the tokens of the
        replies and their end tokens, and -100 elsewhere.

        Raises:
            UserError: unless user and assistant alternate in each conversation, with the assistant last.
        """
        images = [self._sight.prepare(image) for image, _ in conversations]
        turns = [turns for _, turns in conversations]
        return rows(self._speaker.template, images, turns, self._speaker.prefix_lm)


def _default_dialect(config: Any) -> Dialect:
    """The dialect that the configuration sets as ``sam4mllm_dialect``, else that of its model type."""
    dialect_name = config.to_dict().get("sam4mllm_dialect")
    return dialect_for(config.model_type) if dialect_name is None else dialect_named(dialect_name)


def _device(name: str | None) -> torch.device:
    try:
        # in distributed training the launcher assigns one GPU to each process
        local_gpu = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        device = torch.device(name or (local_gpu if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}: give cpu, cuda, cuda:1 ...") from error
    if device.type == "meta":
        raise UserError("the device 'meta' holds no weights: give cpu, cuda, cuda:1 ...")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"no device {name!r} on this machine: torch finds no CUDA")
    return device


def _config(name: str | Path, trust: bool) -> Any:
    """The configuration of a model of a supported kind.

    Raises:
        UserError: if the model is not found or not supported.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise UserError(f"no model {str(name)!r}: give a folder or a name on the hub ({_first_line(error)})") from error
    _refuse_encoder_decoder(config)
    remote = trust and "AutoModelForImageTextToText" in getattr(config, "auto_map", {})
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not remote:
        raise UserError(f"the model {str(name)!r} ({config.model_type}) is not an image-text-to-text model")
    return config


def _refuse_encoder_decoder(config: Any) -> None:
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        raise UserError(f"a model of type {config.model_type} is an encoder-decoder: choose a causal model")


def _processor(name: str | Path, trust: bool, chat_template: str | None) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=trust)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"the model {str(name)!r} has a processor that does not load: {_first_line(error)}") from error
    if not isinstance(processor, ProcessorMixin):
        raise UserError(f"the model {str(name)!r} has no image processor, only a {type(processor).__name__}")
    if chat_template:
        processor.chat_template = chat_template
    return processor


def _model(
    name: str | Path, config: Any, dtype: str, device_map: Any, attention: str | None, trust: bool, **quantization: Any
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
            **quantization,
        )
    # missing, mismatched or damaged weights, or an attention that is unknown or not installed
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"the model {str(name)!r} does not load: {_first_line(error)}") from error
    if info["missing_keys"]:  # missing weights would be random, and so would every reply
        raise UserError(f"the model {str(name)!r} lacks weights, such as {min(info['missing_keys'])}")
    return model


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
