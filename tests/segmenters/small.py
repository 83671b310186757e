"""Small random models of the real classes of promptable segmenters, each with its own processor, built offline.

The input has 64 pixels in cells of 4, so a 16 x 16 image has one pixel per cell. Random weights of the usual size give
masks without edges, on which no mask test could fail, so `build` enlarges the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf

SIDE = 64
CELLS = 16
DECODER = {
    "hidden_size": 32,
    "mlp_dim": 32,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 32,
}
PROMPTS = {"hidden_size": 32, "image_size": SIDE, "patch_size": SIDE // CELLS, "mask_input_channels": 4}
VIT = {
    "hidden_size": 32,
    "output_channels": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": SIDE // CELLS,
    "window_size": 4,
    "global_attn_indexes": [1],
    "num_pos_feats": 16,
    "mlp_dim": 32,
    "initializer_range": 0.02,
}
LEVELS = [[SIDE // 1, SIDE // 1], [SIDE // 2, SIDE // 2], [CELLS, CELLS]]


def _padded() -> Any:
    return tf.SamImageProcessor(
        size={"longest_edge": SIDE},
        pad_size={"height": SIDE, "width": SIDE},
        mask_size={"longest_edge": SIDE},
        mask_pad_size={"height": SIDE, "width": SIDE},
    )


def sam() -> tuple[Any, Any]:
    config = tf.SamConfig(vision_config=VIT, prompt_encoder_config=PROMPTS, mask_decoder_config=DECODER)
    return tf.SamModel(config), tf.SamProcessor(_padded())


def sam_hq() -> tuple[Any, Any]:
    config = tf.SamHQConfig(
        vision_config=VIT, prompt_encoder_config=PROMPTS, mask_decoder_config={**DECODER, "vit_dim": 32}
    )
    return tf.SamHQModel(config), tf.SamHQProcessor(_padded())


def sam2() -> tuple[Any, Any]:
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "image_size": [4 * SIDE, 4 * SIDE],
        "hidden_size": 8,
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3],
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": LEVELS,
        "fpn_hidden_size": 32,
    }
    prompts = {**PROMPTS, "image_size": 4 * SIDE, "patch_size": 16}
    config = tf.Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=DECODER)
    processor = tf.Sam2ImageProcessor(size={"height": 4 * SIDE, "width": 4 * SIDE})
    return tf.Sam2Model(config), tf.Sam2Processor(processor)


def sam3_tracker() -> tuple[Any, Any]:
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "pretrain_image_size": SIDE,
        "patch_size": SIDE // CELLS,
        "window_size": 4,
        "global_attn_indexes": [1],
    }
    vision = tf.Sam3VisionConfig(backbone_config=backbone, fpn_hidden_size=32, backbone_feature_sizes=LEVELS)
    config = tf.Sam3TrackerConfig(
        vision_config=vision.to_dict(), prompt_encoder_config=PROMPTS, mask_decoder_config=DECODER
    )
    processor = tf.Sam3ImageProcessor(size={"height": SIDE, "width": SIDE})
    return tf.Sam3TrackerModel(config), tf.Sam3TrackerProcessor(processor)


def edgetam() -> tuple[Any, Any]:
    backbone = tf.TimmWrapperConfig(
        architecture="repvit_m1",
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    vision = {
        "backbone_config": backbone.to_dict(),
        "backbone_feature_sizes": LEVELS,
        "fpn_hidden_size": 32,
    }
    prompts = {**PROMPTS, "image_size": 4 * SIDE, "patch_size": 16}
    config = tf.EdgeTamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=DECODER)
    processor = tf.Sam2ImageProcessor(size={"height": 4 * SIDE, "width": 4 * SIDE})
    return tf.EdgeTamModel(config), tf.Sam2Processor(processor)


CLASSES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "sam": sam,
    "sam_hq": sam_hq,
    "sam2": sam2,
    "sam3_tracker": sam3_tracker,
    "edgetam": edgetam,
}


def build(name: str, folder: Path) -> Path:
    """Save the model of that name and its processor to a folder."""
    torch.manual_seed(0)
    model, processor = CLASSES[name]()
    enlarge(model)
    with torch.no_grad():  # one matrix that some classes save twice
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(
            model.shared_image_embedding.positional_embedding
        )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def enlarge(model: torch.nn.Module) -> None:
    """Scale random weights so that masks have edges, for every class's initialisation."""
    tables = {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight in tables or name.endswith("positional_embedding"):
                weight.normal_()
            elif weight.ndim > 1:
                weight.normal_(0, weight[0].numel() ** -0.5)


def slopes(logits: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """A fake result of `pick_best`: half-planes whose edges move away from the top left corner."""
    n, _, height, width = logits.shape
    rows, columns = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return 1000 * (torch.linspace(0.3, 2.5, n)[:, None, None] - rows - 2 * columns), [1.0] * n
