"""The `llama` family: pre-norm Transformer with grouped heads, rotary positions and SwiGLU (arXiv 2302.13971).

A GGUF file of it with experts is what others call mixtral. GGUF stores q and k so that a rotary pair is two
neighbours, hence `interleaved=True`.
"""

from twofold.model.family import mixtral
from twofold.model.family.base import Blueprint, Facts
from twofold.model.family.parts import pre_norm, uniform


def build(facts: Facts) -> Blueprint:
    """The blueprint of a llama checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    if facts.integer("expert_count", 0, low=0):
        return mixtral.build(facts)
    return uniform(facts, pre_norm, interleaved=True)
