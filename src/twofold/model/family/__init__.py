"""Families of models: one short declarative file each, named after its `model_type`."""

from collections.abc import Callable
from dataclasses import replace

from twofold.errors import ModelError
from twofold.model.family import (
    gemma3_text,
    glm4_moe,
    gpt_oss,
    llama,
    minimax_m2,
    mistral,
    mixtral,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    smollm3,
)
from twofold.model.family.base import Blueprint, Facts
from twofold.model.segment import top_of, with_parts

FAMILIES: dict[str, Callable[[Facts], Blueprint]] = {
    "gemma3": gemma3_text.build,  # as GGUF names it
    "gemma3_text": gemma3_text.build,
    "glm4_moe": glm4_moe.build,
    "glm4moe": glm4_moe.build,  # as GGUF names it
    "gpt-oss": gpt_oss.build,  # as GGUF names it
    "gpt_oss": gpt_oss.build,
    "llama": llama.build,
    "minimax-m2": minimax_m2.build,  # as GGUF names it
    "minimax_m2": minimax_m2.build,
    "mistral": mistral.build,
    "mixtral": mixtral.build,
    "olmo2": olmo2.build,
    "phi3": phi3.build,
    "qwen2": qwen2.build,
    "qwen3": qwen3.build,
    "qwen3_moe": qwen3_moe.build,
    "qwen3moe": qwen3_moe.build,  # as GGUF names it
    "smollm3": smollm3.build,
}


def require(architecture: str) -> None:
    """Raise ModelError for a family we do not have."""
    if architecture not in FAMILIES:
        raise ModelError(
            f"model architecture {architecture[:60]!r} is not supported; supported: {', '.join(sorted(FAMILIES))}"
        )


def build(facts: Facts) -> Blueprint:
    """The blueprint by the family that the checkpoint names, with all that is derived: the head's top k as one more end
    of the step, and the parts of segments with experts.

    Raises ModelError for a family we do not have.
    """
    require(facts.architecture)
    blueprint = FAMILIES[facts.architecture](facts)
    steps = (*blueprint.segments, top_of(blueprint.segments[-1]))
    segments, mixtures = with_parts(steps, blueprint.experts)
    return replace(blueprint, segments=segments, mixtures=mixtures)
