import contextlib
import socket
import urllib.error
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import ConfigurationError, Unreachable
from twofold.processor import scrape
from twofold.processor.scrape import Scrape, answer

TEXT = "some_total 1\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def url() -> Iterator[str]:
    made = Scrape("127.0.0.1:0")
    with made.serving(lambda: TEXT):
        yield made.url


def place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def test_the_text_is_served_as_prometheus_wants_it(url: str) -> None:
    for _ in range(3):
        with urlopen(url, timeout=5) as response:
            assert response.read().decode() == TEXT
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(("method", "path", "code"), [("POST", "/metrics", 405), ("GET", "/other", 404)])
def test_anything_else_is_refused_and_says_what_is_here(url: str, method: str, path: str, code: int) -> None:
    request = Request(url.replace("/metrics", path), method=method)
    with pytest.raises(urllib.error.HTTPError, match=str(code)) as caught:
        urlopen(request, timeout=5)
    assert b"/metrics" in caught.value.read()
    caught.value.close()


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=30).map(lambda junk: GET[:20] + junk + GET[20:])))
def test_whatever_is_asked_the_answer_is_whole_and_has_the_text_only_for_the_right_question(request: bytes) -> None:
    head, _, body = answer(request, lambda: TEXT).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    if body == TEXT.encode():
        assert request.startswith(b"GET /metrics")
        assert b"\r\n\r\n" in request
    else:
        assert not head.startswith(b"HTTP/1.1 200")


def test_one_who_hangs_up_or_says_nothing_keeps_nobody_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "REQUEST_SECONDS", 0.2)
    with socket.create_connection(place(url)), socket.create_connection(place(url)) as other:
        other.sendall(b"GET /met")
        other.close()
        with urlopen(url, timeout=5) as response:
            assert response.read().decode() == TEXT


def test_an_address_that_other_hosts_reach_is_refused() -> None:
    for where in ("0.0.0.0:0", "[::]:0", "192.0.2.1:9000"):
        with pytest.raises(ConfigurationError, match=r"could be read from other hosts.*give 127\.0\.0\.1:PORT"):
            Scrape(where)


def test_a_port_that_is_taken_is_unreachable_and_is_free_after_the_block() -> None:
    made = Scrape("127.0.0.1:0")
    taken = ":".join(map(str, place(made.url)))
    with made.serving(lambda: TEXT), pytest.raises(Unreachable, match="metrics cannot be served"):
        Scrape(taken)
    with contextlib.closing(socket.create_server(place(made.url))):
        pass
