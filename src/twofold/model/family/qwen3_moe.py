"""The `qwen3_moe` family: Qwen3 with a mixture of experts in the place of each feed-forward part (arXiv 2505.09388)."""

import functools

from twofold.model.family.base import Blueprint, Facts
from twofold.model.family.mixture import Router, mixed
from twofold.model.family.parts import uniform


def build(facts: Facts) -> Blueprint:
    """The blueprint of a qwen3_moe checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    layer = functools.partial(mixed, router=Router.of(facts), head_norms=True)
    return uniform(facts, layer, interleaved=False)
