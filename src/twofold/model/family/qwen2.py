"""The `qwen2` family: Llama with biases on q, k and v (arXiv 2407.10671)."""

from twofold.model.family.base import Blueprint, Facts
from twofold.model.family.parts import pre_norm, uniform


def build(facts: Facts) -> Blueprint:
    """The blueprint of a qwen2 checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    return uniform(facts, pre_norm, interleaved=False)
