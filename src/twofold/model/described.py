"""A model as its source describes it, before any weight is read: what checkpoints and bare configs have in common."""

import math
import re
from dataclasses import dataclass

import numpy as np

from twofold.errors import ModelError
from twofold.model.family.base import Blueprint, Facts
from twofold.model.format import F32, Format
from twofold.model.manifest import NUMERICS, Manifest, Model
from twofold.model.segment import check_segment
from twofold.model.source import Source


@dataclass(frozen=True)
class Matrix:
    """The size of a weight matrix: rows · width elements of `format`."""

    rows: int
    width: int
    format: Format


def facts_of(source: Source) -> Facts:
    """What the family of `source` builds from; raises ModelError if it names none."""
    architecture = source.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise ModelError(f"{source.path}: metadata general.architecture is missing, so the family is unknown")

    def vector(name: str) -> tuple[float, ...]:
        if name not in source.tensors:
            raise ModelError(f"{source.path}: tensor {name} is missing; use a complete file")
        form = source.tensors[name].format
        if form is not F32:
            raise ModelError(f"{source.path}: tensor {name} is stored as {form.name}; F32 is needed")
        return tuple(np.frombuffer(source.raw(name), "<f4").tolist())

    return Facts(architecture, source.metadata, frozenset(source.tensors), vector)


def model_of(facts: Facts, blueprint: Blueprint, *, digest: str, untitled: str) -> Model:
    """The model of a blueprint, its segments checked; `untitled` is its name if the metadata gives none."""
    for index, segment in enumerate(blueprint.segments):
        check_segment(index, segment)
    name = facts.metadata.get("general.name")
    manifest = Manifest(
        digest=digest,
        name=name if isinstance(name, str) and name else untitled,
        family=facts.architecture,
        numerics=NUMERICS,
        vocabulary=facts.vocabulary(),
        context_length=facts.integer("context_length", high=1 << 30),
        cuts=tuple(segment.cut for segment in blueprint.segments),
        layers=blueprint.layers,
        mixtures=blueprint.mixtures,
    )
    return Model(manifest, blueprint.segments)


def matrix_of(source: Source, name: str) -> Matrix:
    """The size of a stored tensor as a matrix, a vector being one row; `name[a:b]` is its rows a to b - 1."""
    whole, first, last = part_of(name)
    stored = source.tensors[whole]
    rows = math.prod(stored.shape[:-1])
    return Matrix(rows if last is None else last - first, stored.shape[-1], stored.format)


_PART = re.compile(r"(.+)\[(\d+):(\d+)\]")


def part_of(name: str) -> tuple[str, int, int | None]:
    """(tensor, first row, row after the last) of the name of a tensor or of some of its rows; None for all."""
    found = _PART.fullmatch(name)
    return (found[1], int(found[2]), int(found[3])) if found else (name, 0, None)
