"""Loads the `Segmenter` that a name on the command line or in a recipe stands for."""

from __future__ import annotations

from pathlib import Path

from sam4mllm.errors import UserError
from sam4mllm.runtime.specs import EMBEDDED, TINY, check_device, check_file_of, may_be_hub_or_folder, unknown_name
from sam4mllm.segmenters import Segmenter

SEGMENTERS = ("box", "grabcut", TINY, "vit_b:FILE", "vit_l:FILE", "vit_h:FILE")


_CHECKPOINT = ("vit_b", "vit_l", "vit_h")


def check_segmenter(spec: str, single_mask: bool = False) -> None:
    """Check the arguments of `build_segmenter` without reading weights. Only the form of a hub name is checked.

    Raises:
        UserError: if `build_segmenter` cannot use them; the message lists the choices and the nearest one.
    """
    kind, colon, path = spec.partition(":")
    if colon and kind in _CHECKPOINT:
        check_file_of(spec, Path(path))
    elif spec not in SEGMENTERS[:3] and not may_be_hub_or_folder(spec):
        raise unknown_name("segmenter", spec, (*SEGMENTERS, "a folder", "a hub name (owner/name)"))
    elif spec in SEGMENTERS[:2] and single_mask:
        raise UserError(
            f"the segmenter {spec} always returns one mask: use the single-mask option with models that return three"
        )


def check_segmenter_device(spec: str, device: str | None, dtype: str) -> None:
    """Check the device and dtype of a segmenter that is used without an MLLM.

    Raises:
        UserError: if a segmenter without weights is given a device other than the CPU, or a segmenter that has no
            weights or only a checkpoint's own dtype is given a dtype.
    """
    if spec in SEGMENTERS[:2] and device not in (None, "cpu"):
        raise UserError(f"the segmenter {spec} runs only on the CPU: remove --device {device}")
    if dtype != "auto" and (spec in SEGMENTERS[:2] or spec.partition(":")[0] in _CHECKPOINT):
        raise UserError(f"the segmenter {spec} does not support a dtype: remove --dtype {dtype}")


def build_segmenter(
    spec: str, *, device: str | None = None, dtype: str = "auto", single_mask: bool = False
) -> Segmenter:
    """The segmenter that ``spec`` names, with its weights loaded.

    Args:
        spec: ``box``, ``grabcut``, ``tiny``; ``vit_b:FILE``, ``vit_l:FILE`` or ``vit_h:FILE`` for a segment_anything
            checkpoint; else a folder or hub name of a transformers model.
        device: a torch device; the best available one by default.
        dtype: a torch dtype, or ``auto`` for the checkpoint's own.
        single_mask: whether to predict one mask instead of the best of three by predicted IoU.

    Raises:
        UserError: if the name is unknown or the model cannot be used.
    """
    check_segmenter(spec, single_mask)
    kind, _, path = spec.partition(":")
    match kind:
        case "box":
            from sam4mllm.segmenters.box import BoxSegmenter

            return BoxSegmenter()
        case "grabcut":
            from sam4mllm.segmenters.grabcut import GrabCutSegmenter

            return GrabCutSegmenter()
        case "vit_b" | "vit_l" | "vit_h":
            check_device(device)
            from sam4mllm.segmenters.sam import SamSegmenter

            return SamSegmenter.load(Path(path), model=kind, device=device, multimask=not single_mask)
    check_device(device)
    from sam4mllm.segmenters.hf import HfSegmenter

    folder = EMBEDDED / "sam" if spec == TINY else spec
    return HfSegmenter.load(folder, device=device, dtype=dtype, multimask=not single_mask)
