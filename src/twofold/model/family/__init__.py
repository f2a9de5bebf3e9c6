"""Families of models: one short declarative file each, named after its `model_type`."""

from collections.abc import Callable

from twofold.errors import ModelError
from twofold.model.family import llama
from twofold.model.family.base import Blueprint, Facts

FAMILIES: dict[str, Callable[[Facts], Blueprint]] = {"llama": llama.build}


def build(facts: Facts) -> Blueprint:
    """The blueprint by the family that the checkpoint names; raises ModelError for a family we do not have."""
    if facts.architecture not in FAMILIES:
        raise ModelError(
            f"model architecture '{facts.architecture}' is not supported; supported: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[facts.architecture](facts)
