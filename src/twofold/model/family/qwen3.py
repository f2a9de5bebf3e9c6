"""The `qwen3` family: Llama with each head of q and k normalised before its rotation (arXiv 2505.09388)."""

import functools

from twofold.model.family.base import Blueprint, Facts
from twofold.model.family.parts import pre_norm, uniform


def build(facts: Facts) -> Blueprint:
    """The blueprint of a qwen3 checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    return uniform(facts, functools.partial(pre_norm, head_norms=True), interleaved=False)
