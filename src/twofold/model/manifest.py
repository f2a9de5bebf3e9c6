"""The manifest: all that a context processor needs to know of a model, and no weight.

It travels when a context processor attaches (a few kilobytes): the planes of every cut and the small context
parameters (head layout, scale, rotary frequencies) of every layer.
"""

import msgspec

from twofold.model.operations import ContextLayer
from twofold.model.segment import Cut, Plane, Segment

# The exact arithmetic, written down in docs/numerics.md. Processors that differ in it refuse each other.
NUMERICS = 1


class Manifest(msgspec.Struct, frozen=True):
    """One model as both sides of the cut know it."""

    digest: str  # SHA-256 of the checkpoint file, hexadecimal
    name: str
    family: str
    numerics: int
    vocabulary: int  # tokens, = width of the logits plane
    context_length: int  # positions the model was made for
    cuts: tuple[Cut, ...]  # of segments 0 .. L and of the other ends of a step
    layers: tuple[ContextLayer, ...]  # L of them

    @property
    def segments(self) -> int:
        """Number of segments: one a layer, and the ends of a step."""
        return len(self.cuts)

    def planes(self) -> tuple[Plane, ...]:
        """Every distinct plane of every cut, in the order of first use."""
        found: dict[str, Plane] = {}
        for cut in self.cuts:
            for plane in (*cut.takes, *cut.gives):
                found.setdefault(plane.name, plane)
        return tuple(found.values())

    def context_bytes_per_token(self) -> int:
        """Bytes that context memory grows by with each token of a session."""
        return sum(layer.context_bytes for layer in self.layers)


class Model(msgspec.Struct, frozen=True):
    """A model: its manifest and, for the weight side, the operations of each segment."""

    manifest: Manifest
    segments: tuple[Segment, ...]
