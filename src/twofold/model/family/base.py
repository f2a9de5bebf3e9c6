"""What a family file builds from, and the loader that finds it by the architecture's name.

A family is one short file named after its `model_type`: it reads facts from the checkpoint's metadata and
returns a `Blueprint`: the segments, the context layers, and the shape of every tensor they need.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from twofold.errors import ModelError
from twofold.model.operations import ContextLayer
from twofold.model.segment import Segment

BLOCK = 32  # activations are rounded to integers in blocks of 32
PANEL = 16  # lanes that the kernels work in


@dataclass(frozen=True)
class Facts:
    """The numbers a checkpoint's metadata states, read with errors that name the key."""

    architecture: str
    metadata: Mapping[str, object]
    tensor_names: frozenset[str]

    def integer(self, key: str, default: int | None = None, *, low: int = 1, high: int = 1 << 24) -> int:
        """`<architecture>.<key>` as an integer in [low, high]."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ModelError(
                f"metadata {self.architecture}.{key} is {value!r}; an integer from {low} to {high} is needed"
            )
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """`<architecture>.<key>` as a finite positive number."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ModelError(f"metadata {self.architecture}.{key} is {value!r}; a positive number is needed")
        return float(value)

    def refuse(self, key: str, allowed: tuple[object, ...], what: str) -> None:
        """Raise ModelError if `<architecture>.<key>` is present with a value other than those allowed."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if value is not None and value not in allowed:
            raise ModelError(f"{what} (metadata {self.architecture}.{key} = {value!r}) is not supported yet")


@dataclass(frozen=True)
class Blueprint:
    """A model before its weights: segments 0 .. L, context layers 0 .. L-1, tensor name → (rows, width)."""

    segments: tuple[Segment, ...]
    layers: tuple[ContextLayer, ...]
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)


def check_widths(multiple: int, **widths: int) -> None:
    """Raise ModelError unless every width is a multiple of `multiple`, which the arithmetic needs."""
    for name, width in widths.items():
        if width % multiple:
            words = name.replace("_", " ")
            raise ModelError(f"{words} {width} is not a multiple of {multiple}, which the kernels need")


def rounded(value: float) -> float:
    """The nearest float32: context parameters travel as values of that type."""
    return float(np.float32(value))
