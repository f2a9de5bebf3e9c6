"""The `olmo2` family: norms behind attention and feed-forward, and on all of q and all of k (arXiv 2501.00656)."""

from twofold.model.family.base import Blueprint, Facts
from twofold.model.family.parts import Layer, Parts, uniform
from twofold.model.operations import Add, Attention, SwiGLU


def build(facts: Facts) -> Blueprint:
    """The blueprint of an olmo2 checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    return uniform(facts, _post_norm, interleaved=False)


def _post_norm(parts: Parts, attention: Attention) -> Layer:
    out_of = (
        *parts.attention_out("mixed"),
        parts.norm("mixed", "post_attention_norm", "mixed"),
        Add("carry", "mixed", "middle"),
        *parts.gated("middle", SwiGLU, "ffn out"),
        parts.norm("ffn out", "post_ffw_norm", "ffn out"),
        Add("middle", "ffn out", "carry"),
    )
    return Layer((*parts.qkv("carry"), *parts.width_norms()), attention, out_of)
