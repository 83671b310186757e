"""The original `segment_anything`: ViT-B, ViT-L or ViT-H from a checkpoint file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from segment_anything import sam_model_registry
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image, Prompt
from sam4mllm.segmenters import Capabilities, ScoredMask
from sam4mllm.segmenters.decoding import GROUP_MULTIPLE, LogitDrafts, merge_groups, move_to_device, pick_best
from sam4mllm.segmenters.grouping import PromptGroup, group_prompts

MODELS = ("vit_b", "vit_l", "vit_h")


class SamSegmenter:
    """A `segment_anything` model.

    Args:
        model: a built ``segment_anything.modeling.Sam``.
        multimask: whether to predict three masks and use the one with the highest predicted IoU, instead of one mask.
        max_prompts: the maximum number of prompts in one call of the decoder.
    """

    capabilities = Capabilities(points_without_box=True)

    def __init__(self, model: Any, multimask: bool = True, max_prompts: int = 32) -> None:
        self.model, self.multimask, self.max_prompts = model.eval(), multimask, max_prompts

    @classmethod
    def load(
        cls, checkpoint: str | Path, model: str = "vit_h", *, device: str | None = None, single_mask: bool = False
    ) -> SamSegmenter:
        """Build a model and load its weights. The file is read as tensors only; it cannot run code.

        Args:
            checkpoint: a ``.pth`` file with the model's weights.
            model: one of `MODELS`.
            device: a torch device; CUDA if available by default.
            single_mask: whether to predict one mask instead of the best of three by predicted IoU.

        Raises:
            UserError: if the model name is unknown, the file is missing, is not a checkpoint or belongs to another
                model, or the device is not available.
        """
        if model not in MODELS:
            raise UserError(f"unknown segment_anything model {model!r}: choose from {', '.join(MODELS)}")
        weights = _weights(Path(checkpoint))
        sam = sam_model_registry[model]()
        try:
            sam.load_state_dict(weights)
        except RuntimeError as error:  # its message lists every tensor
            raise UserError(f"{checkpoint} does not hold the weights of a {model}") from error
        return cls(move_to_device(sam, device), not single_mask)

    def embed(self, image: Image) -> SamScene:
        """Encode the image, once for all prompts.

        Raises:
            UserError: if the image is so narrow that its shorter side vanishes at the model's input size.
        """
        resize = ResizeLongestSide(self.model.image_encoder.img_size)
        height, width = image.shape[:2]
        resized = resize.get_preprocess_shape(height, width, resize.target_length)
        if 0 in resized:
            raise UserError(f"an image of {width} x {height} pixels is too narrow for the segmenter")
        pixels = torch.from_numpy(np.ascontiguousarray(resize.apply_image(image))).to(self.model.device)
        with torch.inference_mode():
            features = self.model.image_encoder(self.model.preprocess(pixels.permute(2, 0, 1)[None].float()))
        return SamScene(self, features, resized, (height, width))


class SamScene:
    """An encoded image.

    Args:
        segmenter: the model and its settings.
        features: the image's embedding.
        seen: (height, width) of the image in the model's input, without padding.
        size: (height, width) of the image.
    """

    def __init__(
        self, segmenter: SamSegmenter, features: Float[Tensor, "1 c h w"], seen: tuple[int, int], size: tuple[int, int]
    ) -> None:
        self._segmenter, self._features, self._seen, self._size = segmenter, features, seen, size

    def segment(self, prompts: Sequence[Prompt]) -> list[ScoredMask]:
        """One mask per prompt, independent of the other prompts. The score is the IoU that the model predicts."""
        return self._drafts(prompts, 1).masks(range(len(prompts))) if prompts else []

    def draft(self, prompts: Sequence[Prompt]) -> LogitDrafts:
        """One low-resolution logit mask per prompt, a draft, independent of the other prompts; at least one prompt."""
        return self._drafts(prompts, GROUP_MULTIPLE)

    @torch.inference_mode()
    def _drafts(self, prompts: Sequence[Prompt], multiple: int) -> LogitDrafts:
        scale = (self._seen[1] / self._size[1], self._seen[0] / self._size[0])
        batches = group_prompts(prompts, scale, self._segmenter.max_prompts, multiple)
        logits, scores = merge_groups((group.rows, pick_best(*self._decode(group))) for group in batches)
        side = self._segmenter.model.image_encoder.img_size
        return LogitDrafts(logits, scores, (self._seen[0] / side, self._seen[1] / side), self._size, self._enlarge)

    def _decode(self, group: PromptGroup) -> tuple[Float[Tensor, "n m h w"], Float[Tensor, "n m"]]:
        """The logits of each prompt's masks at the decoder's size, and their predicted IoUs."""
        sam = self._segmenter.model
        points, labels = (torch.from_numpy(array).to(sam.device) for array in (group.points, group.labels))
        boxes = None if group.boxes is None else torch.from_numpy(group.boxes).to(sam.device)
        sparse, dense = sam.prompt_encoder(
            points=(points, labels) if group.points.size else None, boxes=boxes, masks=None
        )
        logits, scores = sam.mask_decoder(
            image_embeddings=self._features,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=self._segmenter.multimask,
        )
        return logits, scores

    def _enlarge(self, logits: Float[Tensor, "n h w"]) -> Bool[Tensor, "n height width"]:
        sam = self._segmenter.model
        masks: Tensor = sam.postprocess_masks(logits[:, None], self._seen, self._size)[:, 0] > sam.mask_threshold
        return masks


def _weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint.

    Raises:
        UserError: if the file is missing or holds anything but tensors.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # another kind of file can raise anything in the reader
        raise UserError(f"{path} is not a checkpoint") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path} is not a checkpoint: it does not hold only tensors")
    return weights
