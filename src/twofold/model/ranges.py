"""Sets of segments as people write them: `0-3,7`."""

import re
from collections.abc import Iterable

from twofold.errors import ConfigurationError

_PART = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", re.ASCII)
LIMIT = 65536  # no model has so many segments, and a range of more is not laid out to find that out


def ranges_text(numbers: Iterable[int]) -> str:
    """`0-3,7` for 0, 1, 2, 3, 7; `none` for none."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs) or "none"


def parse_ranges(text: str) -> frozenset[int]:
    """The numbers of `0-3,7`; ConfigurationError for anything else."""
    numbers: set[int] = set()
    for part in text.split(","):
        found = _PART.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < LIMIT:
            raise ConfigurationError(f"'{text}' is not a list of segments; write ranges like 0-15 or 0-3,7")
        numbers.update(range(first, last + 1))
    return frozenset(numbers)
