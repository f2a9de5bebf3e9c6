"""The `mistral` family: Llama that sees a window of positions, where the checkpoint says so (arXiv 2310.06825)."""

from twofold.model.family.base import Blueprint, Facts
from twofold.model.family.parts import pre_norm, uniform


def build(facts: Facts) -> Blueprint:
    """The blueprint of a mistral checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    return uniform(facts, pre_norm, interleaved=True, windowed=True)
