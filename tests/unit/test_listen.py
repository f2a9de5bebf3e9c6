"""Where a server may listen, and what is said if it may not."""

import socket

import pytest

from twofold.errors import ConfigurationError, Unreachable
from twofold.server.listen import listening, url_of


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("localhost", "http://127.0.0.1:")])
def test_this_host_needs_no_key(host: str, url: str) -> None:
    with listening(host, 0, keyed=False) as taken:
        assert url_of(taken).startswith(url)
        with socket.create_connection(taken.getsockname()[:2]):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_other_hosts_need_one(host: str) -> None:
    with pytest.raises(ConfigurationError):
        listening(host, 0, keyed=False)


def test_with_a_key_every_address_will_do() -> None:
    with listening("0.0.0.0", 0, keyed=True) as taken:
        assert taken.getsockname()[0] == "0.0.0.0"


def test_a_port_that_is_taken_is_said_before_anything_is_loaded() -> None:
    with listening("127.0.0.1", 0, keyed=False) as taken, pytest.raises(Unreachable, match="--port"):
        listening("127.0.0.1", taken.getsockname()[1], keyed=False)
