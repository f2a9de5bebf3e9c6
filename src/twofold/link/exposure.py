"""Which addresses may be listened at. Decides; the host was looked up by whoever asks."""

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from twofold.errors import ConfigurationError
from twofold.link.base import Address

ENCRYPTED = frozenset({"tls", "wss"})


class Tokens(NamedTuple):
    """What a listener must know of the tokens."""

    in_force: int = 0  # how many are
    asked: bool = False  # require one even where anybody could be let in: on this host


NO_TOKENS = Tokens()


def token_required(address: Address, ips: Sequence[str], tokens: Tokens) -> bool:
    """Whether clients at `address`, which is `ips`, must have a token; ConfigurationError if it may not be listened at.

    Beyond this host only encrypted schemes are allowed, and tokens are always required.
    """
    beyond = not all(on_this_host(ip) for ip in ips)
    if beyond and address.scheme not in ENCRYPTED:
        raise ConfigurationError(
            f"{address.url} can be reached from other hosts, and {address.scheme}:// is not encrypted; "
            f"use tls://{address.place}, or 127.0.0.1 for this host alone"
        )
    if (beyond or tokens.asked) and not tokens.in_force:
        who = "can be reached from other hosts" if beyond else "is to ask for tokens"
        raise ConfigurationError(f"{address.url} {who}, and none is in force; grant one with: twofold keys grant NAME")
    return beyond or tokens.asked


def on_this_host(ip: str) -> bool:
    """Whether an IP address (a zone after % included) is one that no other host can reach."""
    return ipaddress.ip_address(ip.partition("%")[0]).is_loopback
