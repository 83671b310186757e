"""The configuration of a `Pipeline` as plain values, as the command line and YAML recipes give it.

>>> PipelineConfig(mllm="tiny", segmenter="tiny", prompter="pqpp", options={"points": 9}).build()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.mllm import MLLM
from sam4mllm.mllm.adapter_card import CARD, AdapterCard
from sam4mllm.mllm.load import build_mllm, check_mllm
from sam4mllm.pipeline import Pipeline
from sam4mllm.prompters.load import ORACLE, Option, build_prompter, check_prompter, check_segmenter_supports
from sam4mllm.runtime.specs import check_dtype
from sam4mllm.segmenters import Segmenter
from sam4mllm.segmenters.load import build_segmenter, check_segmenter, check_segmenter_device


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """Names and options from which a `Pipeline` is built.

    Attributes:
        segmenter: ``box``, ``grabcut``, ``tiny``, a segment_anything checkpoint such as ``vit_b:FILE``, or a folder or
            hub name of a transformers model.
        mllm: a folder or hub name of a transformers model, ``tiny``, or ``replay:FILE`` for recorded replies. Empty for
            the adapter's base model, and if prompts come from the user or the ground truth.
        prompter: one of `prompters.load.PROMPTERS`.
        options: arguments of the prompter that replace its defaults.
        adapter: folder of a LoRA adapter for the MLLM.
        dialect: how the MLLM writes coordinates. None detects it from the model's configuration, and selects the
            paper's format for a replay.
        device: torch device; None selects the best available device.
        dtype: torch dtype, or ``auto`` for the checkpoint's dtype.
        device_map: how the MLLM is distributed over devices, as transformers takes it.
        attention: attention implementation of the MLLM, as transformers names it.
        single_mask: whether the segmenter returns its single mask instead of the best of three by predicted IoU.
        trust_remote_code: whether code shipped with the MLLM may run.
    """

    segmenter: str = ""
    mllm: str = ""
    prompter: str = "ppg"
    options: Mapping[str, Option] = field(default_factory=dict)
    adapter: str | None = None
    dialect: str | None = None
    device: str | None = None
    dtype: str = "auto"
    device_map: str | None = None
    attention: str | None = None
    single_mask: bool = False
    trust_remote_code: bool = False

    def resolved(self) -> PipelineConfig:
        """The configuration with missing values filled in from the card of the adapter or of a fine-tuned model.

        The card gives the base model and the prompter's options.

        Raises:
            UserError: if the card cannot be read, or if the adapter has no card and ``mllm`` is empty.
        """
        card = AdapterCard.read(Path(self.adapter or self.mllm)) if self.adapter or self.mllm else None
        if card is None and self.adapter and not self.mllm:
            raise UserError(f"the adapter {self.adapter} has no {CARD} with the name of its base model: pass --mllm")
        if card is None:
            return self
        name = self.mllm or card.base_name
        return replace(self, mllm=name, options={**card.options(self.prompter), **self.options})

    def check(self, truth: bool = False) -> None:
        """Checks all values that can be checked without loading a model.

        Args:
            truth: whether samples with ground truth are available, which the oracle needs.

        Raises:
            UserError: at the first invalid value; the message gives the valid ones.
        """
        self.resolved()._check(truth)

    def _check(self, truth: bool) -> None:
        if self.prompter == ORACLE:
            self._check_oracle(truth)
        else:
            check_mllm(self.mllm, self.adapter, self.dialect)
        check_dtype(self.dtype)
        check_segmenter(self.segmenter, self.single_mask)
        check_prompter(self.prompter, self.options)
        check_segmenter_supports(self.segmenter, self.prompter, self.options)

    def _check_oracle(self, truth: bool) -> None:
        if not truth:
            raise UserError("--prompter oracle needs samples with ground truth: use it with predict, not with infer")
        if self.mllm or self.adapter or self.dialect or self.device_map or self.attention or self.trust_remote_code:
            raise UserError("--prompter oracle does not use an MLLM: remove --mllm and its options")

    def build(self, samples: Iterable[Sample] | None = None) -> Pipeline:
        """Loads the models, the segmenter first, and returns the pipeline.

        Args:
            samples: the samples to predict, for the oracle; other prompters ignore them.

        Raises:
            UserError: as `check` does; if a model cannot be loaded.
        """
        recipe = self.resolved()
        recipe._check(truth=samples is not None)
        segmenter = recipe.build_segmenter()
        if samples is not None and recipe.prompter == ORACLE:
            return Pipeline(build_prompter(ORACLE, None, recipe.options, samples), segmenter)
        return Pipeline(build_prompter(recipe.prompter, recipe.build_mllm(), recipe.options), segmenter)

    def build_mllm(self) -> MLLM:
        """Loads the MLLM.

        Raises:
            UserError: if the name is unknown, or the model cannot be loaded.
        """
        return build_mllm(
            self.mllm,
            adapter=self.adapter,
            dialect=self.dialect,
            device=self.device,
            dtype=self.dtype,
            device_map=self.device_map,
            attention=self.attention,
            trust_remote_code=self.trust_remote_code,
        )

    def check_user_prompts(self) -> None:
        """Checks a configuration for prompts that the user gives: a valid segmenter, and no options of an MLLM.

        Raises:
            UserError: at the first invalid value, or if an option does not apply.
        """
        if (
            self.mllm
            or self.prompter != "ppg"
            or self.options
            or self.adapter
            or self.dialect
            or self.device_map
            or self.attention
            or self.trust_remote_code
        ):
            raise UserError("--box and --click do not use an MLLM: remove --mllm, --prompter and their options")
        check_dtype(self.dtype)
        check_segmenter(self.segmenter, self.single_mask)
        check_segmenter_device(self.segmenter, self.device, self.dtype)

    def build_segmenter(self) -> Segmenter:
        """Loads the segmenter.

        Raises:
            UserError: if the name is unknown, or the model cannot be loaded.
        """
        return build_segmenter(self.segmenter, device=self.device, dtype=self.dtype, single_mask=self.single_mask)
