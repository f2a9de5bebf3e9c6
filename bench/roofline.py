"""The roofline of one comparison as numbers: points and limits. Pure; bench/plot.py draws it."""

import statistics
from typing import Any

CHUNK = 256  # rows of one step of our prefill: the weights are read once for so many
ROWS = {"decode 1": 1, "decode 8": 8, "decode 32": 32, "prefill 700": CHUNK}


def roofline(result: dict[str, Any]) -> dict[str, Any]:
    """Points and limits of one result of bench/compare.py; pure.

    `points[system]` is a list of (work, multiplications a byte, tokens a second) with medians over the rounds;
    `slope` is tokens a second for each multiplication a byte, `flat` tokens a second.
    """
    ours = next(system for system in result["systems"] if system["system"] == "twofold")
    each, read_bytes = ours["multiplications_per_token"], ours["read_bytes_per_token"]
    works = {name: work for name, work in result["works"].items() if name in ROWS}
    beside = [limits for work in works.values() for limits in work["beside"]]
    points: dict[str, list[tuple[str, float, float]]] = {}
    for name, work in works.items():
        for system in work["rounds"][0]:
            rate = statistics.median(values[system] for values in work["rounds"])
            points.setdefault(system, []).append((name, ROWS[name] * each / read_bytes, rate))
    return {
        "points": points,
        "slope": statistics.median(limits["read_bytes_per_second"] for limits in beside) / each,
        "flat": statistics.median(limits["multiplications_per_second"] for limits in beside) / each,
    }


def title(result: dict[str, Any]) -> str:
    """What was measured, where and when: by it a picture is known to be of this result; pure."""
    return f"{result['model']}, {result['machine']}, {result['date'][:10]}, commit {result['commit']}"
