"""The MLLMs that have a name, and `MLLMSpec`: a name with its options, checked before any weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam4mllm.errors import UserError
from sam4mllm.language.dialects import dialect as dialect_named
from sam4mllm.mllm import MLLM, ChatCapabilities
from sam4mllm.runtime.loaders import FILE, Loader, LoaderTable, options_of
from sam4mllm.runtime.specs import EMBEDDED, TINY, check_dtype

_HF = Loader(
    "sam4mllm.mllm.hf.model:HfMLLM.load",
    frozenset({"adapter", "dialect", "device", "dtype", "device_map", "attention", "four_bits"})
    | {"trust_remote_code", "chat_template"},
    capabilities=ChatCapabilities(),
    is_transformers=True,
)
_REPLAY = Loader(
    "sam4mllm.mllm.scripted:ScriptedMLLM.replay", frozenset({"dialect"}), FILE, capabilities=ChatCapabilities()
)
MLLMS = LoaderTable(
    "MLLM", "sam4mllm.mllms", {TINY: _HF.with_argument(EMBEDDED / "mllm"), "replay": _REPLAY}, transformers=_HF
)


@dataclass(frozen=True, slots=True)
class MLLMSpec:
    """An MLLM by name, with the options of loading it. Only the form of a hub name is checked.

    Attributes:
        name: a folder or hub name of a transformers model, ``tiny``, ``replay:FILE`` for recorded replies, or the name
            or ``module:Class`` of an MLLM in another package.
        adapter: the folder of a LoRA trained for this model.
        dialect: the notation of places. By default it follows from the model's configuration; a replay uses the
            paper's.
        device: a torch device; the best available one by default. Models that run elsewhere ignore it.
        dtype: a torch dtype, or ``auto`` for the checkpoint's own.
        device_map: how to distribute the model over devices, instead of ``device``.
        attention: the attention implementation, as transformers names it.
        four_bits: whether to quantize the weights to 4 bits, for training on one small GPU.
        trust_remote_code: whether code that ships with the model may run.
        chat_template: a Jinja template that replaces the model's own; by default the one the adapter was trained with.

    Raises:
        UserError: if the name is unknown (the message lists the choices), or an option is invalid or not supported.
    """

    name: str
    adapter: str | None = None
    dialect: str | None = None
    device: str | None = None
    dtype: str = "auto"
    device_map: str | None = None
    attention: str | None = None
    four_bits: bool = False
    trust_remote_code: bool = False
    chat_template: str | None = None

    def __post_init__(self) -> None:
        if self.dialect is not None:
            dialect_named(self.dialect)
        check_dtype(self.dtype)
        hardware = ("device", "dtype")  # the segmenter may use them
        options = {name: value for name, value in options_of(self).items() if name not in hardware}
        MLLMS.check_options(self.name, MLLMS.find(self.name), options)
        if self.adapter is not None:
            _check_adapter(Path(self.adapter))

    @property
    def capabilities(self) -> ChatCapabilities | None:
        """What the MLLM supports; None if it is known only once it is loaded."""
        capabilities = MLLMS.find(self.name).capabilities
        return capabilities if isinstance(capabilities, ChatCapabilities) else None

    @property
    def path(self) -> str | Path:
        """The folder or hub name of a transformers model.

        Raises:
            UserError: if the name stands for another kind of model.
        """
        loader = MLLMS.find(self.name)
        if not loader.is_transformers:
            raise UserError(f"{self.name} is not a transformers model and cannot be trained")
        path: str | Path = loader.arguments[0]
        return path

    def load(self) -> MLLM:
        """The MLLM, with its weights loaded.

        Raises:
            UserError: if the model or the adapter cannot be loaded, or the device is not available.
        """
        mllm: MLLM = MLLMS.load(self)
        return mllm


def _check_adapter(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}: an adapter is the folder of a LoRA")
    if not (folder / "adapter_config.json").is_file():
        raise UserError(
            f"no adapter at {str(folder)!r}: give the output folder of a training run, with adapter_config.json"
        )
