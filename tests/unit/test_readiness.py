"""Loading, ready, draining: what is said of each, and when it is over."""

import pytest
from served import HELLO, Served

from twofold.server.readiness import Readiness
from twofold.server.refusal import Refusal
from twofold.units import Seconds


def test_while_it_loads_requests_are_told_how_far_it_is() -> None:
    readiness = Readiness()
    readiness.progress("load", 1, 4)
    with pytest.raises(Refusal, match="loading the weights, 25 %") as refused:
        _ = readiness.serving
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "2"})
    state = {"status": "loading", "stage": "load", "done_bytes": 1, "total_bytes": 4}
    assert readiness.state() == state
    assert refused.value.more == {"progress": state}
    assert readiness.loading
    assert not readiness.is_ready


def test_once_ready_requests_are_served_until_it_drains(served: Served) -> None:
    readiness = served.readiness
    assert readiness.serving is served.serving
    assert served.get("/readyz").json() == {"status": "ready"}
    readiness.drain(0.0)
    ready = served.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "draining")
    refused = served.post("/v1/chat/completions", {"messages": HELLO})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert refused.headers["retry-after"] == "2"
    assert served.get("/health").status_code == 200


def test_it_may_end_when_nothing_is_in_hand_or_patience_is_over() -> None:
    readiness, patience = Readiness(), Seconds(10)
    assert not readiness.drained(1e9, patience)
    readiness.in_hand = 1
    readiness.drain(100.0)
    assert not readiness.drained(109.0, patience)
    assert readiness.drained(110.0, patience)
    readiness.in_hand = 0
    assert readiness.drained(100.0, patience)
