"""As whom this host connects: the invitation that an address stands for."""

import os
import time
from pathlib import Path

from twofold.errors import ConfigurationError
from twofold.link.base import Address, parse
from twofold.link.exposure import ENCRYPTED
from twofold.store.grant import Invitation
from twofold.store.keys import hosts
from twofold.units import Nanoseconds
from twofold.wire.message import Hello
from twofold.wire.token import NO_FINGERPRINT, NONCE_BYTES, SCHEME, parse_link, place_of, proved


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


def introduced(hello: Hello, invitation: Invitation | None, fingerprint: bytes = NO_FINGERPRINT) -> Hello:
    """`hello` with a fresh proof of the token of `invitation`; as it is without one.

    `fingerprint`: of the certificate that the other side has shown.
    """
    if invitation is None:
        return hello
    now = Nanoseconds(time.time_ns())
    return proved(hello, invitation.token, fingerprint, time=now, nonce=os.urandom(NONCE_BYTES))


def is_link(address: Address) -> bool:
    """Whether `address` is a join link."""
    return address.url.startswith(SCHEME)


def shown(url: str) -> str:
    """`url` as it may be shown: the address that a join link leads to, without its secret."""
    address = parse(url)
    return f"tls://{parse_link(url).place}" if is_link(address) else url
