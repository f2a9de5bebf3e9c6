"""The way in and out: ids, hosts, what is counted, what is not there."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import HELLO, HOST, Served

from twofold.server.record import request_id

PATH = "/v1/chat/completions"


def test_a_request_keeps_its_id_and_one_without_gets_one(served: Served) -> None:
    given_id = served.get("/health", headers={"x-request-id": "abc-1"})
    assert given_id.headers["x-request-id"] == given_id.headers["request-id"] == served.records[-1].id == "abc-1"
    first, second = (served.get("/health").headers["x-request-id"] for _ in range(2))
    assert first != second
    assert re.fullmatch("req-[0-9a-f]{32}", first)


@given(st.text())
def test_an_id_is_one_word_that_a_log_can_hold(text: str) -> None:
    assert re.fullmatch(r"[\x21-\x7e]{1,128}", request_id(text))


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "chat.localhost:80"]
)
def test_names_of_this_host_are_answered(served: Served, host: str) -> None:
    assert served.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "10.0.0.1", "", "127.0.0.1.evil.example", "[x"])
def test_without_keys_another_name_is_refused_lest_a_page_elsewhere_reads_answers(served: Served, host: str) -> None:
    refused = served.get("/v1/models", headers={"host": host})
    assert (refused.status_code, refused.json()["error"]["code"]) == (421, "wrong_host")


def test_what_is_not_there_is_refused_in_the_shape_of_its_protocol(served: Served) -> None:
    nothing = served.get("/v1/nothing")
    assert (nothing.status_code, nothing.json()["error"]["type"]) == (404, "not_found_error")
    method = served.get(PATH)
    assert (method.status_code, method.headers["allow"]) == (405, "POST")
    assert "error" in method.json()
    assert served.get("/v1/messages/none").json()["type"] == "error"


def test_requests_are_counted_by_route_and_never_by_what_a_stranger_writes(served: Served) -> None:
    for path in ("/a", "/b", "/v1/models/x", "/v1/models/tiny"):
        served.get(path)
    served.post(PATH, {"messages": HELLO})
    assert served.app.counts == {
        ("GET", "unknown", 404): 2,
        ("GET", "/v1/models/{name:path}", 404): 1,
        ("GET", "/v1/models/{name:path}", 200): 1,
        ("POST", PATH, 200): 1,
    }


def test_nothing_is_in_hand_once_all_are_answered(served: Served) -> None:
    for path in ("/health", "/nothing"):
        served.ask("GET", HOST + path)
    served.post(PATH, {})
    assert served.readiness.in_hand == 0


def test_a_bug_is_an_error_without_its_details(served: Served) -> None:
    served.serving.refusing = lambda request: 1 / 0  # type: ignore[return-value]
    with pytest.raises(ZeroDivisionError):  # it goes on to whoever runs the application, for its log
        served.post(PATH, {"messages": HELLO})
    assert served.records[-1].status == 500
