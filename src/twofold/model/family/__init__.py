"""Families of models: one short declarative file each, named after its `model_type`."""

from collections.abc import Callable
from dataclasses import replace

from twofold.errors import ModelError
from twofold.model.family import gemma3_text, llama, mistral, olmo2, phi3, qwen2, qwen3, smollm3
from twofold.model.family.base import Blueprint, Facts
from twofold.model.segment import top_of

FAMILIES: dict[str, Callable[[Facts], Blueprint]] = {
    "gemma3": gemma3_text.build,  # as GGUF names it
    "gemma3_text": gemma3_text.build,
    "llama": llama.build,
    "mistral": mistral.build,
    "olmo2": olmo2.build,
    "phi3": phi3.build,
    "qwen2": qwen2.build,
    "qwen3": qwen3.build,
    "smollm3": smollm3.build,
}


def require(architecture: str) -> None:
    """Raise ModelError for a family we do not have."""
    if architecture not in FAMILIES:
        raise ModelError(
            f"model architecture {architecture[:60]!r} is not supported; supported: {', '.join(sorted(FAMILIES))}"
        )


def build(facts: Facts) -> Blueprint:
    """The blueprint by the family that the checkpoint names, with the head's top k as one more end of the step.

    Raises ModelError for a family we do not have.
    """
    require(facts.architecture)
    blueprint = FAMILIES[facts.architecture](facts)
    return replace(blueprint, segments=(*blueprint.segments, top_of(blueprint.segments[-1])))
