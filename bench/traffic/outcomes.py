"""From what became of requests to whether each had an answer or an honest refusal, and none was passed over. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from traffic.client import Seen

ANSWERED, REFUSED, LEFT, FAILED = "answered", "refused", "left", "failed"


class Outcomes(msgspec.Struct):
    """How many requests ended how. `longest_seconds`: until a first token; `overtaken_seconds`: see `overtaken`."""

    answered: int = 0
    refused: int = 0
    left: int = 0
    failed: int = 0
    longest_seconds: float = 0.0
    overtaken_seconds: float = 0.0
    failures: list[str] = []


def kind(seen: Seen) -> str:
    """One of the four. A refusal is honest if it says when to come back; whoever went away on purpose has left."""
    if seen.left:
        return LEFT
    if seen.status == 200 and seen.finish == "length" and seen.error is None:
        return ANSWERED
    if seen.status == 429 and seen.retry_after is not None and seen.retry_after.isdecimal() and int(seen.retry_after):
        return REFUSED
    return FAILED


def outcomes(all_seen: Sequence[Seen]) -> Outcomes:
    """Of all requests."""
    told = Outcomes()
    for seen in all_seen:
        name = kind(seen)
        setattr(told, name, getattr(told, name) + 1)
        if name == FAILED:
            told.failures.append(f"status {seen.status}, finish {seen.finish}, {seen.pieces} pieces: {seen.error}")
        if seen.first is not None:
            told.longest_seconds = max(told.longest_seconds, seen.first - seen.sent)
    by_key: dict[str, list[Seen]] = {}
    for seen in all_seen:
        by_key.setdefault(seen.key, []).append(seen)
    told.overtaken_seconds = max((overtaken(of_key) for of_key in by_key.values()), default=0.0)
    return told


def overtaken(of_one_key: Iterable[Seen]) -> float:
    """The longest time by which one of a key had its first token later than another of the key that was sent later."""
    spoken = sorted((seen for seen in of_one_key if seen.first is not None), key=lambda seen: seen.sent, reverse=True)
    worst, earliest = 0.0, float("inf")
    for seen in spoken:
        assert seen.first is not None
        worst = max(worst, seen.first - earliest)
        earliest = min(earliest, seen.first)
    return worst
