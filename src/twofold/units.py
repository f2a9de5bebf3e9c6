"""Quantities with their unit in the type."""

from typing import NewType

Seconds = NewType("Seconds", float)
Nanoseconds = NewType("Nanoseconds", int)
Bytes = NewType("Bytes", int)

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def bytes_text(count: int) -> str:
    """`count` bytes for people: `1.5 MiB`."""
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
