"""All that a `Pipeline` is built of, as words and numbers: what the command line and other recipes say. Knows no model.

>>> Recipe(mllm="tiny", segmenter="tiny", prompter="pqpp", options={"points": 9}).build()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.mllm import MLLM
from sam4mllm.mllm.adapter_card import CARD, Card
from sam4mllm.mllm.load import build_mllm, check_mllm
from sam4mllm.pipeline import Pipeline
from sam4mllm.prompters.load import ORACLE, Option, build_prompter, check_prompter, check_together
from sam4mllm.runtime.specs import check_dtype
from sam4mllm.segmenters import Segmenter
from sam4mllm.segmenters.load import build_segmenter, check_segmenter, check_segmenter_alone


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that is needed to build a `Pipeline`, as words and numbers.

    Attributes:
        segmenter: ``box``, ``grabcut``, ``tiny``, ``vit_b:FILE`` and its like for a segment_anything checkpoint, else
            a folder or hub name of a transformers model.
        mllm: a folder or hub name of a transformers model, ``tiny``, or ``replay:FILE`` for recorded replies; empty
            for the adapter's own base, and where the prompts come by hand or from the truth.
        prompter: one of `prompters.load.PROMPTERS`.
        options: the prompter's arguments, those that are not to be its defaults.
        adapter: the folder of a LoRA trained for the MLLM.
        dialect: how the MLLM writes places; where None found from the model's configuration, and the paper's
            own for a replay.
        device: as torch names it; the best there is where None.
        dtype: as torch names it, or ``auto`` for the checkpoint's own.
        single_mask: whether the segmenter gives its one mask, and not the best of three by predicted IoU.
        trust_remote_code: whether code that comes with the MLLM may run.
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

    def resolved(self) -> Recipe:
        """The same, with what the card of the adapter, or of a model trained here, says where the recipe does not.

        That is the base, and the options that the prompter is built with.

        Raises:
            UserError: for a card that cannot be read, and an adapter without one whose base is not named.
        """
        card = Card.read(Path(self.adapter or self.mllm)) if self.adapter or self.mllm else None
        if card is None and self.adapter and not self.mllm:
            raise UserError(f"the adapter {self.adapter} has no {CARD} that names its base: give --mllm")
        if card is None:
            return self
        name = self.mllm or card.base_name
        return replace(self, mllm=name, options={**card.options(self.prompter), **self.options})

    def check(self, truth: bool = False) -> None:
        """Refuse what `build` cannot build, as far as that shows without loading a model.

        Args:
            truth: whether there are samples with true masks, which the oracle needs.

        Raises:
            UserError: for the first slip, saying what is allowed.
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
        check_together(self.segmenter, self.prompter, self.options)

    def _check_oracle(self, truth: bool) -> None:
        if not truth:
            raise UserError("the prompter oracle reads the true masks of samples: it goes with predict, not with infer")
        if self.mllm or self.adapter or self.dialect or self.device_map or self.attention or self.trust_remote_code:
            raise UserError("the prompter oracle asks no MLLM: leave out what is about it")

    def build(self, samples: Iterable[Sample] | None = None) -> Pipeline:
        """Load the models, the smaller one first.

        Args:
            samples: what will be asked about, for the oracle; no other prompter sees them.

        Raises:
            UserError: as `check` does, and for models that cannot be loaded.
        """
        recipe = self.resolved()
        recipe._check(truth=samples is not None)
        segmenter = recipe.build_segmenter()
        if samples is not None and recipe.prompter == ORACLE:
            return Pipeline(build_prompter(ORACLE, None, recipe.options, samples), segmenter)
        return Pipeline(build_prompter(recipe.prompter, recipe.build_mllm(), recipe.options), segmenter)

    def build_mllm(self) -> MLLM:
        """Load the MLLM alone.

        Raises:
            UserError: for a name that means nothing, or a model that cannot be loaded.
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

    def check_by_hand(self) -> None:
        """Refuse a segmenter that cannot be built or would not use an option, and all about an MLLM: none is asked.

        Raises:
            UserError: for the first slip.
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
            raise UserError("boxes and clicks by hand ask no MLLM: leave out what is about it or its prompter")
        check_dtype(self.dtype)
        check_segmenter(self.segmenter, self.single_mask)
        check_segmenter_alone(self.segmenter, self.device, self.dtype)

    def build_segmenter(self) -> Segmenter:
        """Load the segmenter alone.

        Raises:
            UserError: for a name that means nothing, or a model that cannot be loaded.
        """
        return build_segmenter(self.segmenter, device=self.device, dtype=self.dtype, single_mask=self.single_mask)
