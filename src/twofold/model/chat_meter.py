"""What one rendering of a chat template may cost, counted in units of about one copied character.

A template comes with a model file, so it is somebody else's program. It cannot be interrupted once it is in
a long operation of the interpreter, so every operation is paid for: before it runs where its result can be
longer than what it was given, after it otherwise. Counting instead of watching a clock makes the outcome
the same on every machine.

    VALUE_LIMIT  no string, and no tree of values written out in full, weighs more
    WORK_LIMIT   all operations of one rendering together (a few seconds in the worst case)

A template of a published model spends some hundred units a message and a few for each character.
"""

from collections.abc import Collection, ItemsView, Iterable, KeysView, Mapping, ValuesView
from typing import Any

from jinja2 import TemplateError

from twofold.units import MIB

VALUE_LIMIT = 16 * MIB
WORK_LIMIT = 256 * MIB
ITEM = 128  # units for the existence of one value, of one step


class TooCostly(TemplateError):  # noqa: N818
    """The template asked for more than a rendering may cost."""


def refuse_large(units: int) -> None:
    """Raise TooCostly for a value of more than VALUE_LIMIT."""
    if units > VALUE_LIMIT:
        raise TooCostly(f"it makes a value larger than {VALUE_LIMIT // MIB} MiB")


class Meter:
    """The account of one rendering. Its methods raise TooCostly at either limit."""

    def __init__(self) -> None:
        self.left = WORK_LIMIT

    def spend(self, units: int) -> None:
        """Pay for steps."""
        self.left -= units
        if self.left < 0:
            raise TooCostly(f"it takes more than {WORK_LIMIT // MIB} million units of work")

    def claim(self, units: int) -> None:
        """Pay for a value of this weight that is about to be made."""
        refuse_large(units)
        self.spend(units)

    def weigh(self, value: object) -> int:
        """Pay for `value`, written out as a tree, and return its weight."""
        weight = ITEM
        waiting: list[Collection[Any]] = [(value,)]
        while waiting:
            for item in waiting.pop():
                if isinstance(item, str):
                    weight += len(item)
                elif isinstance(item, Mapping):
                    waiting += (item.keys(), item.values())
                    weight += 2 * ITEM * len(item)
                elif isinstance(item, list | tuple | range | KeysView | ValuesView | ItemsView):
                    weight += ITEM * len(item)
                    if not isinstance(item, range):
                        waiting.append(item)
                refuse_large(weight)
        self.claim(weight)
        return weight

    def read(self, pieces: Iterable[str]) -> str:
        """Join `pieces`, paying for each before the next is made."""
        kept: list[str] = []
        length = 0
        for piece in pieces:
            kept.append(piece)
            length += len(piece)
            refuse_large(length)
        self.claim(length)
        return "".join(kept)
