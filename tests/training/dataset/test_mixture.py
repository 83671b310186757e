from dataclasses import fields

from sam4mllm.training.dataset.mixture import KINDS, TALK, Mixture


def test_the_kinds_are_those_of_the_mixture_and_conversations():
    assert (*(field.name for field in fields(Mixture)), TALK) == KINDS
