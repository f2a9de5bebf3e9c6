"""A Status as Prometheus reads it: the text exposition format, version 0.0.4. No name of a token is in it."""

import math
from collections.abc import Iterator, Sequence

from twofold.model.ranges import ranges_text
from twofold.wire.status import BUCKETS, Status, bucket_start

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "twofold_weight_"
LIMITS = range(36, BUCKETS, 4)  # buckets of durations whose starts are limits here: 1 us, doubling, to 69 s


def exposition(status: Status) -> str:
    """All metrics of a processor, a line each, with HELP and TYPE."""
    counts = status.counts
    about = {"title": status.title, "digest": status.digest, "segments": ranges_text(status.segments)}
    failures = [(_labels({"kind": kind}), count) for kind, count in sorted(counts.failures.items())]
    experts = [
        (_labels({"segment": f"{segment}", "expert": f"{expert}"}), count)
        for segment, counted in sorted(status.expert_rows.items())
        for expert, count in enumerate(counted)
    ]
    lines = [
        *_metric("info", "gauge", "What is held; always 1.", [(_labels(about), 1)]),
        *_single("uptime_seconds", "gauge", "Since the processor started.", status.uptime / 1e9),
        *_single("draining", "gauge", "1 once it was told to end.", int(status.draining)),
        *_single("connections", "gauge", "Connections that have said Hello.", status.connections),
        *_single("owners", "gauge", "Owners of those connections.", status.owners),
        *_single("waiting_calls", "gauge", "Calls that have no answer yet.", status.waiting),
        *_single("calls_total", "counter", "Calls answered with rows.", counts.calls),
        *_single("rows_total", "counter", "Rows of those calls.", counts.rows),
        *_single("received_bytes_total", "counter", "Bytes of those calls, headers included.", counts.received),
        *_single("sent_bytes_total", "counter", "Bytes of the replies, headers included.", counts.sent),
        *_metric("failures_total", "counter", "Calls and connections ended with an error, by its class.", failures),
        *(_metric("expert_rows_total", "counter", "Rows that went to each expert.", experts) if experts else ()),
        *_histogram("batch_rows", "Rows of a batch.", _powers(counts.batch_rows), counts.rows),
        *_histogram(
            "wait_seconds", "From the arrival of a call to its batch.", _durations(counts.waits), counts.waited / 1e9
        ),
        *_histogram("work_seconds", "Work on a batch.", _durations(counts.works), counts.worked / 1e9),
    ]
    return "".join(f"{line}\n" for line in lines)


def _single(name: str, kind: str, meaning: str, value: float) -> Iterator[str]:
    return _metric(name, kind, meaning, [("", value)])


def _metric(name: str, kind: str, meaning: str, samples: Sequence[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {meaning}"
    yield f"# TYPE {PREFIX}{name} {kind}"
    for labels, value in samples:
        yield f"{PREFIX}{name}{labels} {value}"


def _histogram(name: str, meaning: str, cumulative: Sequence[tuple[float, int]], total: float) -> Iterator[str]:
    """`cumulative`: (limit, how many are not above it), the last for all."""
    yield from _metric(name, "histogram", meaning, [])
    for limit, count in cumulative[:-1]:
        yield f'{PREFIX}{name}_bucket{{le="{limit}"}} {count}'
    count = cumulative[-1][1]
    yield f'{PREFIX}{name}_bucket{{le="+Inf"}} {count}'
    yield f"{PREFIX}{name}_sum {total}"
    yield f"{PREFIX}{name}_count {count}"


def _powers(histogram: Sequence[int]) -> list[tuple[float, int]]:
    return [*((2**n, sum(histogram[: n + 1])) for n in range(len(histogram))), (math.inf, sum(histogram))]


def _durations(histogram: Sequence[int]) -> list[tuple[float, int]]:
    """What begins at a limit is counted above it: a nanosecond that the figures do not show."""
    limits = [(bucket_start(limit) / 1e9, sum(histogram[:limit])) for limit in LIMITS]
    return [*limits, (math.inf, sum(histogram))]


def _labels(labels: dict[str, str]) -> str:
    escaped = {name: value.translate(_ESCAPES) for name, value in labels.items()}
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
