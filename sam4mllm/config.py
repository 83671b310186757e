"""The configuration of a `Pipeline` as plain values, as the command line and YAML recipes give it.

>>> PipelineConfig(mllm="tiny", segmenter="tiny", prompter="pqpp", options={"points": 9}).build()
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Prompt
from sam4mllm.mllm import MLLM
from sam4mllm.mllm.adapter_card import CARD, AdapterCard
from sam4mllm.mllm.load import MLLMS, MLLMSpec
from sam4mllm.pipeline import Pipeline
from sam4mllm.prompters.load import BOX, FINE_TUNED, ORACLE, Option, PrompterSpec
from sam4mllm.segmenters import Segmenter, check_supported
from sam4mllm.segmenters.load import SegmenterSpec

log = logging.getLogger(__name__)

_MLLM_OPTIONS = ("mllm", "adapter", "dialect", "device_map", "attention", "trust_remote_code")


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """Names and options from which a `Pipeline` is built.

    Attributes:
        segmenter: as for `SegmenterSpec`.
        mllm: as for `MLLMSpec`. Empty for the adapter's base model, and if prompts come from the user or the ground
            truth.
        prompter: as for `PrompterSpec`. Empty for the first prompter that the adapter was trained for, and for ``box``
            without an adapter.
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
    prompter: str = ""
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

        The card gives the base model, the prompter and its options.

        Raises:
            UserError: if the card cannot be read, or ``mllm`` is empty and the adapter has no card, or its base was
                moved.
        """
        card = self._card()
        if card is None and self.adapter and not self.mllm:
            raise UserError(f"the adapter {self.adapter} has no {CARD} with the name of its base model: pass --mllm")
        if card is None:
            return replace(self, prompter=self.prompter or BOX)
        base = Path(card.base_name)
        if not self.mllm and base.is_absolute() and not base.is_dir():
            raise UserError(
                f"the adapter {self.adapter} was trained on {base}, which does not exist here: pass --mllm with the "
                "folder or hub name of this model"
            )
        prompter = self.prompter or next(iter(card.prompters), BOX)
        options = {**card.options(prompter), **self.options}
        return replace(self, mllm=self.mllm or card.base_name, prompter=prompter, options=options)

    def _card(self) -> AdapterCard | None:
        """The card of the adapter or of the MLLM's folder; a name of the table is no folder."""
        folder = self.adapter or ("" if self.mllm in MLLMS.rows else self.mllm)
        return AdapterCard.read(Path(folder)) if folder else None

    def warn_if_not_trained(self) -> None:
        """Logs a warning if the prompter needs fine-tuning and the MLLM has neither an adapter nor a card.

        The configuration must be resolved.
        """
        is_trained = self.adapter or self._card()
        if self.prompter in FINE_TUNED and not is_trained and MLLMS.find(self.mllm).is_transformers:
            log.warning(
                "no adapter: %s was not fine-tuned for %s, so many replies may be unreadable; --prompter box needs no "
                "fine-tuning",
                self.mllm,
                self.prompter,
            )

    def check(self, has_ground_truth: bool = False) -> None:
        """Checks all values that can be checked without loading a model.

        Args:
            has_ground_truth: whether samples with ground truth are available, which the oracle needs.

        Raises:
            UserError: at the first invalid value; the message gives the valid ones.
        """
        self.resolved()._prompter(has_ground_truth)

    def _prompter(self, has_ground_truth: bool) -> PrompterSpec:
        """The prompter's spec, after all values are checked. The configuration must be resolved."""
        mllm = None
        if self.prompter != ORACLE:
            mllm = self._mllm()
        elif not has_ground_truth:
            raise UserError("--prompter oracle needs samples with ground truth: use it with predict, not with infer")
        else:
            self._refuse_mllm_options("--prompter oracle does")
        segmenter, prompter = self._segmenter(), PrompterSpec(self.prompter, self.options)
        if mllm and mllm.capabilities and prompter.needs_choose and not mllm.capabilities.choose:
            raise UserError(
                f"the MLLM {self.mllm} gives no option probabilities, but the prompter {self.prompter} needs them: "
                "choose another MLLM or prompter (box and ppg need none)"
            )
        supported, produces = segmenter.capabilities, prompter.produces
        if supported is not None and produces is not None:
            unsupported = supported.unsupported(produces)
            if unsupported:
                raise UserError(
                    f"the segmenter {self.segmenter} takes no {unsupported}, but the prompter {self.prompter} "
                    "generates them: choose another segmenter or prompter (box generates no points)"
                )
        return prompter

    def _refuse_mllm_options(self, subject: str) -> None:
        used = [f"--{name.replace('_', '-')}" for name in _MLLM_OPTIONS if getattr(self, name)]
        if used:
            raise UserError(f"{subject} not use an MLLM: remove {', '.join(used)}")

    def build(self, samples: Iterable[Sample] | None = None) -> Pipeline:
        """Loads the models, the segmenter first, and returns the pipeline.

        Args:
            samples: the samples to predict, for the oracle; other prompters ignore them.

        Raises:
            UserError: as `check` does; if a model cannot be loaded.
        """
        config = self.resolved()
        prompter = config._prompter(has_ground_truth=samples is not None)
        segmenter = config.build_segmenter()
        mllm = None if config.prompter == ORACLE else config.build_mllm()
        return Pipeline(prompter.load(mllm, samples or ()), segmenter)

    def _mllm(self) -> MLLMSpec:
        return MLLMSpec(
            self.mllm,
            adapter=self.adapter,
            dialect=self.dialect,
            device=self.device,
            dtype=self.dtype,
            device_map=self.device_map,
            attention=self.attention,
            trust_remote_code=self.trust_remote_code,
        )

    def _segmenter(self) -> SegmenterSpec:
        return SegmenterSpec(self.segmenter, self.device, self.dtype, self.single_mask)

    def build_mllm(self) -> MLLM:
        """Loads the MLLM.

        Raises:
            UserError: if the name is unknown, or the model cannot be loaded.
        """
        return self._mllm().load()

    def check_user_prompts(self, prompts: Sequence[Prompt] = ()) -> None:
        """Checks a configuration for prompts that the user gives: a segmenter for them, and no options of an MLLM.

        Args:
            prompts: the prompts, if they are known.

        Raises:
            UserError: at the first invalid value, or if an option does not apply.
        """
        if self.prompter or self.options:
            raise UserError("--box and --click do not use an MLLM: remove --prompter and its options")
        self._refuse_mllm_options("--box and --click do")
        segmenter = self._segmenter()
        segmenter.check_hardware()
        if segmenter.capabilities is not None:
            check_supported(segmenter.capabilities, prompts, self.segmenter)

    def build_segmenter(self) -> Segmenter:
        """Loads the segmenter.

        Raises:
            UserError: if the name is unknown, or the model cannot be loaded.
        """
        return self._segmenter().load()
