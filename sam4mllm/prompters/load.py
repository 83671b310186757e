"""The table of prompter names: checks a name with its options, and builds the prompter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.mllm import MLLM
from sam4mllm.prompters import Prompter
from sam4mllm.runtime.specs import unknown_name

Option = str | int | float

ORACLE = "oracle"
PROMPTERS = ("ppg", "pqpp", "adaptive", "verified", "box", ORACLE)


def check_prompter(name: str, options: Mapping[str, Option]) -> None:
    """Check a prompter's name and options without loading a model.

    Raises:
        UserError: if the name or an option is unknown, or a value is invalid; the message lists what is valid.
    """
    from sam4mllm.mllm.scripted import ScriptedMLLM

    build_prompter(name, ScriptedMLLM(lambda *_: ""), options, ())


def check_segmenter_supports(segmenter: str, prompter: str, options: Mapping[str, Option]) -> None:
    """Check that the segmenter supports the prompts of this prompter.

    Raises:
        UserError: if the prompter generates points and the segmenter takes boxes only.
    """
    pointless = prompter == "box" or (prompter == ORACLE and options.get("positive") == options.get("negative") == 0)
    if segmenter == "box" and not pointless:
        raise UserError(f"the segmenter box takes no points, but the prompter {prompter} generates them: use box")


def build_prompter(
    name: str, mllm: MLLM | None, options: Mapping[str, Option], samples: Iterable[Sample] = ()
) -> Prompter:
    """The prompter with this name.

    Args:
        name: one of `PROMPTERS`.
        mllm: the model that the prompter queries; None for the oracle.
        options: further arguments of the constructor; those left out keep their defaults.
        samples: samples with the ground truth masks of the oracle; the other prompters ignore them.

    Raises:
        UserError: if the name or an option is unknown, or a value is invalid.
    """
    strategy = _strategy(name)
    allowed = list(inspect.signature(strategy).parameters)[1:]
    for option in options:
        if option not in allowed:
            choices = ", ".join(allowed) or "no options"
            raise UserError(f"the prompter {name} has no option {option.replace('_', '-')!r}; it takes {choices}")
    return strategy(samples if name == ORACLE else mllm, **options)


def _strategy(name: str) -> Callable[..., Prompter]:
    match name:
        case "ppg":
            from sam4mllm.prompters.ppg import PPG

            return PPG
        case "pqpp":
            from sam4mllm.prompters.pqpp import PQPP

            return PQPP
        case "adaptive":
            from sam4mllm.prompters.adaptive import AdaptivePQPP

            return AdaptivePQPP
        case "verified":
            from sam4mllm.prompters.pqpp import verified

            return verified
        case "box":
            from sam4mllm.prompters.box import BoxPrompter

            return BoxPrompter
        case "oracle":
            from sam4mllm.prompters.oracle import Oracle

            return Oracle.of
    raise unknown_name("prompter", name, PROMPTERS)
