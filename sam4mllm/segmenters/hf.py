"""Promptable segmenters of transformers, through the Auto classes: any model that takes boxes and labelled points.

Differences between model classes are read from the processor and the outputs: how the image is scaled, what an
embedding consists of, and the sizes used to crop and resize masks. No class is named here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskGeneration, AutoProcessor
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASK_GENERATION_MAPPING,
    MODEL_FOR_MASK_GENERATION_MAPPING_NAMES,
)

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image, Prompt
from sam4mllm.segmenters import Capabilities, ScoredMask
from sam4mllm.segmenters.decoding import GROUP_MULTIPLE, LogitDrafts, merge_groups, move_to_device, pick_best
from sam4mllm.segmenters.grouping import PromptGroup, group_prompts


class HfSegmenter:
    """A promptable segmenter of transformers.

    Args:
        model: takes ``input_boxes``, ``input_points`` and ``input_labels`` with an image's embedding.
        processor: the model's processor.
        multimask: whether to predict several masks and use the one with the highest predicted IoU, instead of one mask.
        max_prompts: the maximum number of prompts in one call of the decoder.
    """

    capabilities = Capabilities(points_without_box=True)

    def __init__(self, model: Any, processor: Any, multimask: bool = True, max_prompts: int = 32) -> None:
        self.model, self.processor, self.multimask, self.max_prompts = model.eval(), processor, multimask, max_prompts

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        device: str | None = None,
        dtype: str = "auto",
        single_mask: bool = False,
        trust_remote_code: bool = False,
    ) -> HfSegmenter:
        """Load a model and its processor.

        Args:
            name: a folder, or a name on the hub.
            device: a torch device; CUDA if available by default.
            dtype: of the weights, as torch names it, or ``auto`` for the checkpoint's own.
            single_mask: whether to predict one mask instead of the best of three by predicted IoU.
            trust_remote_code: whether to run code that ships with the model.

        Raises:
            UserError: if the model is not found, lacks weights or takes no points, or the dtype or device is unknown.
        """
        if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise UserError(f"unknown dtype {dtype!r}: choose auto or one of torch's, such as float32 or bfloat16")
        config = _config(name, trust_remote_code)
        try:
            processor = AutoProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
            model, info = AutoModelForMaskGeneration.from_pretrained(
                name, config=config, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True
            )
        # RuntimeError: weights with other shapes
        except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
            raise UserError(f"cannot load the segmenter {str(name)!r}: {_first_line(error)}") from error
        if info["missing_keys"]:  # they would be initialised at random, and masks meaningless
            raise UserError(f"the segmenter {str(name)!r} lacks weights, such as {min(info['missing_keys'])}")
        return cls(move_to_device(model, device), processor, not single_mask)

    def embed(self, image: Image) -> HfScene:
        """Encode the image, once for all prompts.

        Raises:
            UserError: if the processor cannot resize the image, for example because it is too narrow.
        """
        height, width = image.shape[:2]
        try:
            inputs = self.processor(
                images=image,
                input_boxes=[[[0.0, 0.0, float(width), float(height)]]],  # its scaled edges give the scale of the image
                return_tensors="pt",
                input_data_format="channels_last",  # an image three pixels high could be mistaken for channels first
            )
        except ValueError as error:
            raise UserError(f"the segmenter cannot process an image of {width} x {height} pixels") from error
        scale = (float(inputs["input_boxes"][0, 0, 2]) / width, float(inputs["input_boxes"][0, 0, 3]) / height)
        sizes = {key: inputs[key] for key in ("original_sizes", "reshaped_input_sizes") if key in inputs}
        pixels = inputs["pixel_values"].to(self.model.device, self.model.dtype)
        with torch.inference_mode():
            embedding = self.model.get_image_embeddings(pixels)
        return HfScene(self, _embedding_arguments(embedding), scale, (pixels.shape[-2], pixels.shape[-1]), sizes)


class HfScene:
    """An encoded image.

    Args:
        segmenter: the model and its settings.
        embedding: the arguments of the decoder that describe the image.
        scale: pixels of the model's input per pixel of the image, along x and y.
        canvas: (height, width) of the model's input, padding included.
        sizes: the processor's sizes of the image, for enlarging masks.
    """

    def __init__(
        self,
        segmenter: HfSegmenter,
        embedding: dict[str, Any],
        scale: tuple[float, float],
        canvas: tuple[int, int],
        sizes: dict[str, Tensor],
    ) -> None:
        self._segmenter, self._embedding, self._scale = segmenter, embedding, scale
        self._canvas, self._sizes = canvas, sizes

    def segment(self, prompts: Sequence[Prompt]) -> list[ScoredMask]:
        """One mask per prompt, independent of the other prompts. The score is the IoU that the model predicts."""
        return self._drafts(prompts, 1).masks(range(len(prompts))) if prompts else []

    def draft(self, prompts: Sequence[Prompt]) -> LogitDrafts:
        """One low-resolution logit mask per prompt, a draft, independent of the other prompts; at least one prompt."""
        return self._drafts(prompts, GROUP_MULTIPLE)

    @torch.inference_mode()
    def _drafts(self, prompts: Sequence[Prompt], multiple: int) -> LogitDrafts:
        outputs = []
        for group in group_prompts(prompts, self._scale, self._segmenter.max_prompts, multiple):
            output = self._decode(group)
            outputs.append((group.rows, pick_best(output.pred_masks[0].float(), output.iou_scores[0].float())))
        logits, scores = merge_groups(outputs)
        height, width = self._sizes["original_sizes"][0].tolist()
        # a processor that does not pad resizes the image to fill the model's input
        image_size = (
            self._sizes["reshaped_input_sizes"][0].tolist() if "reshaped_input_sizes" in self._sizes else self._canvas
        )
        image_fraction = (image_size[0] / self._canvas[0], image_size[1] / self._canvas[1])
        return LogitDrafts(logits, scores, image_fraction, (height, width), self._enlarge)

    def _decode(self, group: PromptGroup) -> Any:
        model = self._segmenter.model
        prompts = {} if group.boxes is None else {"input_boxes": group.boxes}
        if group.points.size:
            prompts |= {"input_points": group.points, "input_labels": group.labels}
        tensors = {key: torch.from_numpy(value)[None].to(model.device) for key, value in prompts.items()}
        return model(**tensors, **self._embedding, multimask_output=self._segmenter.multimask)

    def _enlarge(self, logits: Float[Tensor, "n h w"]) -> Bool[Tensor, "n height width"]:
        [masks] = self._segmenter.processor.post_process_masks([logits[:, None]], **self._sizes)
        selected: Tensor = masks[:, 0]
        return selected


def _embedding_arguments(embedding: Any) -> dict[str, Any]:
    """The decoder's arguments for an image's embedding: one, or two if the model returns a pair."""
    if isinstance(embedding, tuple):
        return dict(zip(("image_embeddings", "intermediate_embeddings"), embedding, strict=True))
    return {"image_embeddings": embedding}


def _config(name: str | Path, trust: bool) -> Any:
    """The configuration of a model that takes boxes and points.

    Raises:
        UserError: if the model is not found or does not take them.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        message = f"segmenter {str(name)!r} not found: pass a folder or a name on the hub ({_first_line(error)})"
        raise UserError(message) from error
    remote = trust and "AutoModelForMaskGeneration" in getattr(config, "auto_map", {})
    if type(config) not in MODEL_FOR_MASK_GENERATION_MAPPING and not remote:
        raise UserError(
            f"the model {str(name)!r} is of type {config.model_type}, which does not take boxes and points; "
            f"choose from {', '.join(MODEL_FOR_MASK_GENERATION_MAPPING_NAMES)}"
        )
    return config


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
