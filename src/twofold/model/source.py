"""Where a checkpoint's facts and bytes come from, whatever it is kept in; names are GGUF's throughout."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from twofold.model.format import Format


class Stored(Protocol):
    """A tensor as it is kept: `shape` row-major, elements in `format`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Row-major, as NumPy would have it."""

    @property
    def format(self) -> Format:
        """How its elements lie."""


@dataclass(frozen=True)
class Shape:
    """The least that is `Stored`."""

    shape: tuple[int, ...]
    format: Format


def rows_of(raw: memoryview, stored: Stored, rows: tuple[int, int] | None) -> memoryview:
    """Of all the bytes of a tensor those of rows a to b - 1 of its matrix (None: all), nothing copied."""
    each = stored.format.size_bytes(stored.shape[-1])
    return raw if rows is None else raw[rows[0] * each : rows[1] * each]


class Source(Protocol):
    """An open checkpoint: `GgufFile` or `HubDirectory`."""

    @property
    def path(self) -> Path:
        """What messages name."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the model is, by GGUF's keys."""

    @property
    def tensors(self) -> Mapping[str, Stored]:
        """Every tensor by name."""

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> memoryview:
        """The bytes of a tensor, or of rows a to b - 1 of its matrix, valid for as long as the view is held."""

    def give_back(self, raw: memoryview) -> None:
        """The system may take the memory of these bytes; they can be read again."""

    def close(self) -> None:
        """Nothing will be asked for any more."""
