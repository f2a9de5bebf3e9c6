"""The request that becomes a WebSocket: whole, small, for our path, and from no page that we do not know."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import ConfigurationError
from twofold.link.upgrade import HEAD_BYTES, Denied, Upgrade, allowed_origins, denial

OWN = "http://127.0.0.1:7070"
ORIGINS = allowed_origins(["https://chat.example"], ["ws://127.0.0.1:7070"])
FIELDS = {
    "Host": "127.0.0.1:7070",
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "WebSocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def request(*more: str, line: str = "GET /twofold HTTP/1.1", **changes: str | None) -> bytes:
    fields = {**FIELDS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if value is not None), *more]
    return "".join(f"{text}\r\n" for text in lines).encode() + b"\r\n"


def denied(data: bytes) -> Denied:
    with pytest.raises(Denied) as caught:
        Upgrade(ORIGINS).feed(data)
    return caught.value


def test_a_request_is_answered_by_the_hash_of_its_key_and_no_extension() -> None:
    opened = Upgrade(ORIGINS).feed(request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"))
    assert opened is not None
    answer = opened[1].lower()
    assert answer.startswith(b"http/1.1 101 ")
    assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n" in answer  # of RFC 6455, section 1.3
    assert b"extensions" not in answer


@given(st.lists(st.integers(1, len(request()) - 1)))
def test_a_request_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    whole, upgrade = request(), Upgrade(ORIGINS)
    edges = [0, *sorted({*cuts}), len(whole)]
    found = [upgrade.feed(whole[start:end]) for start, end in itertools.pairwise(edges)]
    assert [opened is not None for opened in found] == [False] * (len(edges) - 2) + [True]


@pytest.mark.parametrize("origin", [OWN, "https://chat.example", "HTTPS://Chat.example"])
def test_a_page_of_a_known_origin_may_connect(origin: str) -> None:
    assert Upgrade(ORIGINS).feed(request(f"Origin: {origin}"))


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://chat.example", "https://chat.example.evil", "https://127.0.0.1:7070", "http://127.0.0.1"],
)
def test_any_other_page_may_not_whatever_host_it_names(origin: str) -> None:
    error = denied(request(f"Origin: {origin}", Host=origin.partition("://")[2] or "x"))
    assert error.status == "403 Forbidden"
    assert "may not connect" in str(error)


def test_of_two_origins_both_must_be_known() -> None:
    for origins in ((OWN, "http://evil"), ("http://evil", OWN)):
        assert denied(request(*(f"Origin: {origin}" for origin in origins))).status == "403 Forbidden"


def outcome(data: bytes) -> bytes:
    """What is answered to a request, nothing if it is not whole; any error but Denied fails the test."""
    try:
        opened = Upgrade(ORIGINS).feed(data)
    except Denied as error:
        return denial(error.status, str(error))
    return opened[1] if opened else b""


NO_WEBSOCKET = {
    "plain": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "no key": request(Sec_WebSocket_Key=None),
    "no upgrade": request(Upgrade=None),
    "an old version": request(Sec_WebSocket_Version="8"),
}


@pytest.mark.parametrize("data", NO_WEBSOCKET.values(), ids=NO_WEBSOCKET)
def test_a_request_for_a_page_is_told_what_is_here(data: bytes) -> None:
    error = denied(data)
    assert error.status == "426 Upgrade Required"
    answer = denial(error.status, str(error)).decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert "Upgrade: websocket" in head
    assert f"Content-Length: {len(body)}" in head
    assert body.startswith("a weight processor of Twofold listens here, for WebSockets at /twofold")


BAD = {
    "another path": (request(line="GET /other HTTP/1.1"), "404"),
    "a query": (request(line="GET /twofold?x HTTP/1.1"), "404"),
    "another method": (request(line="POST /twofold HTTP/1.1"), "400"),
    "a frame of ours": (b"2FLD\2\0", "400"),
    "a TLS ClientHello": (b"\x16\x03\x01\x02\x00", "400"),
    "letters that a host cannot have": (request(Host="\xff"), "400"),
    "more than the request": (request() + b"\0", "400"),
    "a head too long": (request(f"X: {'x' * HEAD_BYTES}"), "431"),
    "a head without end": (b"GET /" + b"x" * HEAD_BYTES, "431"),
}


@pytest.mark.parametrize(("data", "status"), BAD.values(), ids=BAD)
def test_what_is_no_request_is_refused_as_soon_as_that_is_known(data: bytes, status: str) -> None:
    assert denied(data).status.startswith(status)


@given(
    st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda tail: request()[:-2] + tail + b"\r\n\r\n"))
)
def test_no_bytes_do_more_than_be_denied(data: bytes) -> None:
    assert outcome(b"GET /twofold HTTP/1.1\r\n" + data).isascii()


@given(st.integers(0, len(request()) - 1), st.integers(1, 255))
def test_a_damaged_request_is_denied_or_still_one(at: int, flip: int) -> None:
    data = bytearray(request(f"Origin: {OWN}"))
    data[at] ^= flip
    assert outcome(bytes(data)).isascii()


@pytest.mark.parametrize(
    ("given_url", "meant"),
    [
        ("https://Chat.Example/", "https://chat.example"),
        ("http://h:80", "http://h"),
        ("https://h:443", "https://h"),
        ("https://h:80", "https://h:80"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_origin_is_compared_as_browsers_write_it(given_url: str, meant: str) -> None:
    assert allowed_origins([given_url], []) == {meant}


@pytest.mark.parametrize(
    "url",
    ["*", "null", "chat.example", "https://h/path", "https://u@h", "https://h?x", "https://[", "", "http://\u2028"],
)
def test_what_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is no origin; write it like") as caught:
        allowed_origins([url], [])
    assert str(caught.value).isprintable()
