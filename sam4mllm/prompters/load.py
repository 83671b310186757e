"""The prompters that have a name, and `PrompterSpec`: a name with its options, checked without a model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.mllm import MLLM
from sam4mllm.prompters import DeclaringPrompter, Prompter
from sam4mllm.runtime.loaders import Loader, LoaderTable
from sam4mllm.segmenters import Capabilities

Option = str | int | float

BOX, ORACLE = "box", "oracle"
FINE_TUNED = ("ppg", "pqpp", "adaptive")
"""Prompters that expect an MLLM that was fine-tuned for them."""
PROMPTERS = LoaderTable(
    "prompter",
    "sam4mllm.prompters",
    {
        "ppg": Loader("sam4mllm.prompters.ppg:PPG"),
        "pqpp": Loader("sam4mllm.prompters.pqpp:PQPP"),
        "adaptive": Loader("sam4mllm.prompters.adaptive:AdaptivePQPP"),
        "verified": Loader("sam4mllm.prompters.pqpp:verified"),
        BOX: Loader("sam4mllm.prompters.box:BoxPrompter"),
        ORACLE: Loader("sam4mllm.prompters.oracle:Oracle.of"),
    },
)


@dataclass(frozen=True, slots=True)
class PrompterSpec:
    """A prompter by name, with its options.

    Attributes:
        name: a name of `PROMPTERS`, or the name or ``module:Class`` of a prompter in another package.
        options: arguments of the constructor after the first, the MLLM; those left out keep their defaults.

    Raises:
        UserError: if the name or an option is unknown (the message lists the choices), or a value is invalid.
    """

    name: str
    options: Mapping[str, Option] = field(default_factory=dict)

    def __post_init__(self) -> None:
        loader = PROMPTERS.find(self.name)
        allowed = list(inspect.signature(loader.callable()).parameters)[1:]
        for option in self.options:
            if option not in allowed and not loader.accepts(option):
                choices = ", ".join(allowed) or "no options"
                raise UserError(
                    f"the prompter {self.name} has no option {option.replace('_', '-')!r}; it takes {choices}"
                )
        self._unconnected()

    @property
    def produces(self) -> Capabilities | None:
        """The kinds of prompts that it generates; None if it does not declare them."""
        prompter = self._unconnected()
        return prompter.produces if isinstance(prompter, DeclaringPrompter) else None

    @property
    def needs_choose(self) -> bool:
        """Whether the MLLM must give option probabilities; False if the prompter does not declare it."""
        prompter = self._unconnected()
        return isinstance(prompter, DeclaringPrompter) and prompter.needs_choose

    def _unconnected(self) -> Prompter:
        """The prompter without a model; making it checks the values of the options."""
        from sam4mllm.mllm.scripted import ScriptedMLLM

        return self.load(ScriptedMLLM(lambda *_: ""))

    def load(self, mllm: MLLM | None, samples: Iterable[Sample] = ()) -> Prompter:
        """The prompter.

        Args:
            mllm: the model that generates the prompts; None for the oracle.
            samples: samples with ground truth masks for the oracle; the other prompters ignore them.
        """
        loader = PROMPTERS.find(self.name).with_argument(samples if self.name == ORACLE else mllm)
        prompter: Prompter = loader.load(self.options)
        return prompter
