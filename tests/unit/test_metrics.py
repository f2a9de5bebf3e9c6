import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from toy_processor import MANIFEST

from twofold.processor.metrics import exposition
from twofold.processor.tally import Tally
from twofold.units import Nanoseconds
from twofold.wire.rows import Layout
from twofold.wire.status import Counts, Status


def status(title: str = "toy", counts: Counts | None = None) -> Status:
    uptime = Nanoseconds(2_500_000_000)
    return Status(title, "ab" * 32, (0, 1), 7, uptime, True, 3, 2, {"alice": 3}, 1, counts or Counts())


def samples(text: str) -> dict[tuple[str, str], float]:
    """(name, value of its one label) → value; the limit of a bucket as a number."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("gauge", "counter", "histogram")
        for sample in family.samples:
            label = sample.labels.get("le") or sample.labels.get("kind") or sample.labels.get("title") or ""
            found[sample.name.removeprefix("twofold_weight_"), label] = sample.value
    return found


def counted() -> Counts:
    tally = Tally(Layout(MANIFEST))
    for rows, wait, worked in ((1, 3_000, 90_000), (5, 5_000, 200_000), (5, 10**11, 10**11)):
        tally.ran(0, rows, [wait], worked)
    tally.failed("Refused")
    return tally.counts()


def test_prometheus_reads_the_rows_of_every_expert() -> None:
    told = msgspec.structs.replace(status(), expert_rows={1: (4, 0), 3: (2, 2)})
    families = text_string_to_metric_families(exposition(told))
    found = {
        (sample.labels["segment"], sample.labels["expert"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "twofold_weight_expert_rows_total"
    }
    assert found == {("1", "0"): 4, ("1", "1"): 0, ("3", "0"): 2, ("3", "1"): 2}


def test_prometheus_reads_every_figure() -> None:
    counts = counted()
    found = samples(exposition(status(counts=counts)))
    assert found["info", "toy"] == 1
    assert found["failures_total", "Refused"] == 1
    expected = {
        "uptime_seconds": 2.5, "draining": 1, "connections": 3, "owners": 2, "waiting_calls": 1, "calls_total": 3,
        "rows_total": 11, "received_bytes_total": counts.received, "sent_bytes_total": counts.sent,
        "batch_rows_count": 3, "batch_rows_sum": 11, "wait_seconds_count": 3, "work_seconds_count": 3,
        "wait_seconds_sum": (3_000 + 5_000 + 10**11) / 1e9, "work_seconds_sum": (290_000 + 10**11) / 1e9,
    }  # fmt: skip
    assert {name: found[name, ""] for name in expected} == expected


def test_buckets_count_what_is_not_above_their_limit() -> None:
    found = samples(exposition(status(counts=counted())))
    waits = {float(label): value for (name, label), value in found.items() if name == "wait_seconds_bucket"}
    assert [waits[limit] for limit in (1.024e-6, 4.096e-6, 8.192e-6, math.inf)] == [0, 1, 2, 3]
    assert max(waits.values()) == waits[math.inf]
    rows = {float(label): value for (name, label), value in found.items() if name == "batch_rows_bucket"}
    assert [rows[limit] for limit in (1, 4, 8, 65536, math.inf)] == [1, 1, 3, 3, 3]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_title_comes_back_as_it_was_and_breaks_no_line(title: str) -> None:
    text = exposition(status(title))
    line = next(line for line in text.split("\n") if line.startswith("twofold_weight_info{"))
    value = line.partition('title="')[2].partition('",digest=')[0]
    assert (
        value.replace("\\\\", "\0").replace("\\n", "\n").replace('\\"', '"').replace("\0", "\\") == title
        or "\0" in title
    )
    assert samples(text)["connections", ""] == 3


def test_no_name_of_a_token_is_told() -> None:
    assert "alice" not in exposition(status())
