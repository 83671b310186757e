"""From a name on a command line or in a recipe to the prompting strategy it names."""

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
    """Refuse an unknown strategy, an option that is not its own, or a value that it refuses; no model is needed.

    Raises:
        UserError: saying what is allowed.
    """
    from sam4mllm.mllm.scripted import ScriptedMLLM

    build_prompter(name, ScriptedMLLM(lambda *_: ""), options, ())


def check_together(segmenter: str, prompter: str, options: Mapping[str, Option]) -> None:
    """Refuse a segmenter that cannot take what a strategy with these options gives.

    Raises:
        UserError: for points to a segmenter of boxes.
    """
    pointless = prompter == "box" or (prompter == ORACLE and options.get("positive") == options.get("negative") == 0)
    if segmenter == "box" and not pointless:
        raise UserError(f"the segmenter box takes no points, and the prompter {prompter} gives them: use box")


def build_prompter(
    name: str, mllm: MLLM | None, options: Mapping[str, Option], samples: Iterable[Sample] = ()
) -> Prompter:
    """The strategy of that name over a talker, or over the truth.

    Args:
        name: one of `PROMPTERS`.
        mllm: who is asked; None for the oracle.
        options: the constructor's other arguments, those that are not to be its defaults.
        samples: whose masks the oracle makes its prompts of; no other strategy sees them.

    Raises:
        UserError: as `check_prompter` does.
    """
    strategy = _strategy(name)
    allowed = list(inspect.signature(strategy).parameters)[1:]
    for option in options:
        if option not in allowed:
            takes = ", ".join(allowed) or "no options"
            raise UserError(f"the prompter {name} has no option {option.replace('_', '-')!r}; it takes {takes}")
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
