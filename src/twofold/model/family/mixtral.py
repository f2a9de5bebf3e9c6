"""The `mixtral` family: Mistral with a mixture of experts in the place of each feed-forward part (arXiv 2401.04088).

GGUF files of it call themselves llama, with experts.
"""

import functools

from twofold.model.family.base import Blueprint, Facts
from twofold.model.family.mixture import Router, mixed
from twofold.model.family.parts import uniform


def build(facts: Facts) -> Blueprint:
    """The blueprint of a mixtral checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    layer = functools.partial(mixed, router=Router.of(facts))
    return uniform(facts, layer, interleaved=True, windowed=True)
