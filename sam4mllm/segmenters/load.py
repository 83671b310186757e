"""From a name on a command line or in a recipe to the `Segmenter` it names; weights are read when one is built."""

from __future__ import annotations

from pathlib import Path

from sam4mllm.errors import UserError
from sam4mllm.runtime.specs import EMBEDDED, TINY, check_device, check_file_of, may_be_hub_or_folder, unknown_name
from sam4mllm.segmenters import Segmenter

SEGMENTERS = ("box", "grabcut", TINY, "vit_b:FILE", "vit_l:FILE", "vit_h:FILE")


_CHECKPOINT = ("vit_b", "vit_l", "vit_h")


def check_segmenter(spec: str, single_mask: bool = False) -> None:
    """Refuse what no `build_segmenter` can mean; a hub name is only seen to have the shape of one.

    Raises:
        UserError: listing the choices, with the nearest.
    """
    kind, colon, path = spec.partition(":")
    if colon and kind in _CHECKPOINT:
        check_file_of(spec, Path(path))
    elif spec not in SEGMENTERS[:3] and not may_be_hub_or_folder(spec):
        raise unknown_name("segmenter", spec, (*SEGMENTERS, "a folder", "a hub name (owner/name)"))
    elif spec in SEGMENTERS[:2] and single_mask:
        raise UserError(f"the segmenter {spec} gives one mask anyway: leave the single mask to models that give three")


def check_segmenter_alone(spec: str, device: str | None, dtype: str) -> None:
    """Refuse a device or a dtype that a segmenter, asked without an MLLM, would not use.

    Raises:
        UserError: for anything but the CPU where the segmenter has no weights, and for a dtype where it has none or
            a checkpoint's own.
    """
    if spec in SEGMENTERS[:2] and device not in (None, "cpu"):
        raise UserError(f"the segmenter {spec} runs on the CPU alone: leave out --device {device}")
    if dtype != "auto" and (spec in SEGMENTERS[:2] or spec.partition(":")[0] in _CHECKPOINT):
        raise UserError(f"the segmenter {spec} is loaded in no other dtype: leave out --dtype {dtype}")


def build_segmenter(
    spec: str, *, device: str | None = None, dtype: str = "auto", single_mask: bool = False
) -> Segmenter:
    """The drawer that ``spec`` names.

    Args:
        spec: ``box``, ``grabcut``, ``tiny``, ``vit_b:FILE`` and its like for a segment_anything checkpoint, else a
            folder or hub name of a transformers model.
        device: as torch names it; the best there is where None.
        dtype: as torch names it, or ``auto`` for the checkpoint's own.
        single_mask: the model's one mask, and not the best of three by predicted IoU.

    Raises:
        UserError: for a name that means nothing, or a model that cannot be used.
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
