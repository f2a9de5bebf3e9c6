import pytest

from twofold.errors import ConfigurationError
from twofold.link.base import parse
from twofold.link.exposure import Tokens, on_this_host, token_required

HERE, THERE, EVERYWHERE = ["127.0.0.1", "::1"], ["10.0.0.1"], ["0.0.0.0"]


@pytest.mark.parametrize("ips", [THERE, EVERYWHERE, ["::"], ["127.0.0.1", "10.0.0.1"], ["fe80::1%eth0"]])
@pytest.mark.parametrize("scheme", ["tcp", "ws", "http"])
def test_what_other_hosts_can_reach_is_refused_without_encryption(scheme: str, ips: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=rf"{scheme}:// is not encrypted; use tls://h:1, or 127\.0\.0\.1"):
        token_required(parse(f"{scheme}://h:1"), ips, Tokens(1, asked=True))


@pytest.mark.parametrize("scheme", ["tls", "wss"])
@pytest.mark.parametrize("asked", [False, True])
def test_what_other_hosts_can_reach_asks_for_a_token_and_needs_one_granted(scheme: str, asked: bool) -> None:
    address = parse(f"{scheme}://h:1")
    assert token_required(address, EVERYWHERE, Tokens(1, asked))
    with pytest.raises(ConfigurationError, match="none is in force; grant one with: twofold keys grant NAME"):
        token_required(address, EVERYWHERE, Tokens(0, asked))


@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws", "wss"])
def test_on_this_host_a_token_is_required_only_if_asked_for(scheme: str) -> None:
    address = parse(f"{scheme}://h:1")
    assert not token_required(address, HERE, Tokens(0))
    assert not token_required(address, HERE, Tokens(1))
    assert token_required(address, HERE, Tokens(1, asked=True))
    with pytest.raises(ConfigurationError, match="is to ask for tokens, and none is in force"):
        token_required(address, HERE, Tokens(0, asked=True))


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.8.9.10", "::1"])
def test_loopback_is_this_host(ip: str) -> None:
    assert on_this_host(ip)


@pytest.mark.parametrize("ip", ["0.0.0.0", "::", "10.1.2.3", "128.0.0.1", "fe80::1%lo", "::ffff:10.0.0.1"])
def test_anything_else_is_not(ip: str) -> None:
    assert not on_this_host(ip)
