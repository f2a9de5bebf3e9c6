"""As whom this host connects: the invitation that an address stands for."""

import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from twofold.errors import ConfigurationError
from twofold.link.base import Address, parse
from twofold.link.exposure import ENCRYPTED
from twofold.store.grant import Invitation, Token
from twofold.store.keys import hosts
from twofold.units import Nanoseconds
from twofold.wire.message import Hello
from twofold.wire.token import NO_FINGERPRINT, SCHEME, parse_link, place_of, proved


class Introduction(NamedTuple):
    """What a client says of itself: `hello`, and its token if it has one.

    `fingerprint`: of the certificate that the other side has shown.
    """

    hello: Hello
    token: Token | None = None
    fingerprint: bytes = NO_FINGERPRINT

    @property
    def first(self) -> Hello:
        """What to begin with: the token's name, and no proof."""
        return msgspec.structs.replace(self.hello, token=self.token.id) if self.token else self.hello

    def answer(self, nonce: bytes) -> Hello | None:
        """The Hello that answers a Challenge; None without a token."""
        now = Nanoseconds(time.time_ns())
        return proved(self.hello, self.token, self.fingerprint, time=now, nonce=nonce) if self.token else None


def introduced(hello: Hello, invitation: Invitation | None, fingerprint: bytes = NO_FINGERPRINT) -> Introduction:
    """The introduction of a client that says `hello` and has `invitation`."""
    return Introduction(hello, invitation.token if invitation else None, fingerprint)


def invitation_for(address: Address, folder: Path) -> Invitation | None:
    """The invitation in `address` if it is a join link, else what `twofold join` kept for its HOST:PORT.

    None if there is neither and the scheme can do without; ConfigurationError that says how to join if it cannot.
    """
    if is_link(address):
        return parse_link(address.url)
    wanted = place_of(address.place)
    found = next((host for host in hosts(folder) if host.place == wanted), None)
    if found is None and address.scheme in ENCRYPTED:
        raise ConfigurationError(
            f"this host has not joined {wanted}; on the processor's host: twofold keys grant NAME --host {wanted}, "
            "and here: twofold join LINK"
        )
    return found


def is_link(address: Address) -> bool:
    """Whether `address` is a join link."""
    return address.url.startswith(SCHEME)


def shown(url: str) -> str:
    """`url` as it may be shown: the address that a join link leads to, without its secret."""
    address = parse(url)
    return f"tls://{parse_link(url).place}" if is_link(address) else url
