import socket

import pytest

from twofold.errors import ConfigurationError, DeadlinePassed, Unreachable
from twofold.link import connect, listen
from twofold.link.base import parse
from twofold.link.tcp import loopback
from twofold.units import Seconds

ELSEWHERE = [
    "192.0.2.1:7000",
    "0.0.0.0:0",
    "[::]:0",
    "[2001:db8::1]:7000",
    "8.8.8.8:53",
    "169.254.0.1:1",
    "[fe80::1]:1",
]


@pytest.mark.parametrize("place", ELSEWHERE)
def test_an_address_off_this_host_is_refused_both_ways_and_says_what_to_use(place: str) -> None:
    for use in (connect, listen):
        with pytest.raises(ConfigurationError, match=r"tcp:// is not encrypted; use tls://"):
            use(f"tcp://{place}")


def test_a_host_with_one_address_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 7000)) for ip in ("127.0.0.1", "192.0.2.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(ConfigurationError, match="use tls://both"):
        loopback(parse("tcp://both.example:7000"))


def test_a_host_that_is_not_known_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror("not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unreachable, match=r"the host of tcp://nowhere\.example:1 is not known"):
        connect("tcp://nowhere.example:1")


@pytest.mark.parametrize(
    "place", ["", ":7000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1"]
)
def test_a_place_that_is_not_host_and_port_is_refused(place: str) -> None:
    for use in (connect, listen):
        with pytest.raises(ConfigurationError, match="not of the form tcp://HOST:PORT"):
            use(f"tcp://{place}")


def test_port_0_takes_a_free_port_and_the_url_says_which() -> None:
    first, second = listen("tcp://127.0.0.1:0"), listen("tcp://127.0.0.1:0")
    ports = [int(listener.url.rpartition(":")[2]) for listener in (first, second)]
    assert ports[0] != ports[1]
    assert all(ports)
    first.close()
    second.close()


def test_a_port_in_use_is_named_in_one_line() -> None:
    listener = listen("tcp://127.0.0.1:0")
    with pytest.raises(Unreachable, match=rf"^cannot listen at {listener.url}: address already in use; [^\n]*$"):
        listen(listener.url)
    listener.close()


def test_accept_returns_nothing_when_nobody_comes() -> None:
    listener = listen("tcp://127.0.0.1:0")
    assert listener.accept() is None
    listener.close()


def test_a_server_that_says_nothing_is_given_up_at_the_deadline() -> None:
    listener = listen("tcp://127.0.0.1:0")
    with pytest.raises(DeadlinePassed, match="did not answer in time"):
        connect(listener.url, deadline=Seconds(0.05))
    listener.close()
