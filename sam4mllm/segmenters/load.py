"""The segmenters that have a name, and `SegmenterSpec`: a name with its options, checked before weights are read."""

from __future__ import annotations

from dataclasses import dataclass

from sam4mllm.errors import UserError
from sam4mllm.runtime.loaders import FILE, Loader, LoaderTable
from sam4mllm.runtime.specs import EMBEDDED, TINY, check_dtype
from sam4mllm.segmenters import Capabilities, Segmenter

_HF = "sam4mllm.segmenters.hf:HfSegmenter.load"
_ALL = Capabilities(points_without_box=True)
_HF_OPTIONS = frozenset({"device", "dtype", "single_mask"})
SEGMENTERS = LoaderTable(
    "segmenter",
    "sam4mllm.segmenters",
    {
        "box": Loader("sam4mllm.segmenters.box:BoxSegmenter", frozenset(), capabilities=Capabilities(False, False)),
        "grabcut": Loader("sam4mllm.segmenters.grabcut:GrabCutSegmenter", frozenset(), capabilities=Capabilities()),
        TINY: Loader(_HF, _HF_OPTIONS, arguments=(EMBEDDED / "sam",), capabilities=_ALL),
        **{
            model: Loader(
                "sam4mllm.segmenters.sam:SamSegmenter.load",
                frozenset({"device", "single_mask"}),
                FILE,
                fixed={"model": model},
                capabilities=_ALL,
            )
            for model in ("vit_b", "vit_l", "vit_h")
        },
    },
    Loader(_HF, _HF_OPTIONS, capabilities=_ALL),
)


@dataclass(frozen=True, slots=True)
class SegmenterSpec:
    """A segmenter by name, with the options of loading it. Only the form of a hub name is checked.

    Attributes:
        name: ``box``, ``grabcut``, ``tiny``; ``vit_b:FILE``, ``vit_l:FILE`` or ``vit_h:FILE`` for a segment_anything
            checkpoint; a folder or hub name of a transformers model; or the name or ``module:Class`` of a segmenter in
            another package.
        device: a torch device; the best available one by default. Segmenters without weights ignore it.
        dtype: a torch dtype, or ``auto`` for the checkpoint's own.
        single_mask: whether to predict one mask instead of the best of three by predicted IoU.

    Raises:
        UserError: if the name is unknown (the message lists the choices), or an option is invalid or not supported.
    """

    name: str
    device: str | None = None
    dtype: str = "auto"
    single_mask: bool = False

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        loader = SEGMENTERS.find(self.name)
        if self.single_mask:
            SEGMENTERS.check_options(self.name, loader, {"single_mask": True})

    def check_hardware(self) -> None:
        """Check the device and dtype of a segmenter that is used without an MLLM, which could use them.

        Raises:
            UserError: if the segmenter does not use them.
        """
        loader = SEGMENTERS.find(self.name)
        if self.device not in (None, "cpu") and not loader.accepts("device"):
            raise UserError(f"the segmenter {self.name} runs only on the CPU: remove --device {self.device}")
        if self.dtype != "auto" and not loader.accepts("dtype"):
            raise UserError(f"the segmenter {self.name} does not support a dtype: remove --dtype {self.dtype}")

    @property
    def capabilities(self) -> Capabilities | None:
        """The prompts that the segmenter supports; None if they are known only once it is loaded."""
        capabilities = SEGMENTERS.find(self.name).capabilities
        return capabilities if isinstance(capabilities, Capabilities) else None

    def load(self) -> Segmenter:
        """The segmenter, with its weights loaded.

        Raises:
            UserError: if the model cannot be loaded, or the device is not available.
        """
        segmenter: Segmenter = SEGMENTERS.load(self)
        return segmenter
