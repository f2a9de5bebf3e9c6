"""What a token may do, and what is kept of it on either side. Data; no files, no sockets.

Token        what a client holds: an id and a secret
Grant        what the processor's host keeps of it: the id, SHA-256 of the secret, and the scope
Invitation   what a join link carries and the client's host keeps: where, whose certificate, which token
"""

import hashlib
import re
import time
from typing import Annotated, NewType

import msgspec
from msgspec import Meta

from twofold.errors import ConfigurationError
from twofold.units import Seconds

ID_BYTES = 8
SECRET_BYTES = 32
FINGERPRINT_BYTES = 32
NAME = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}"
LAST_MOMENT = 253_402_300_799  # the end of the year 9999

UnixSeconds = NewType("UnixSeconds", int)  # of the clock on the wall, since 1970
Moment = Annotated[UnixSeconds, Meta(ge=0, le=LAST_MOMENT)]
TokenId = Annotated[str, Meta(pattern=rf"^[0-9a-f]{{{2 * ID_BYTES}}}\Z")]
Digest32 = Annotated[bytes, Meta(min_length=32, max_length=32)]  # as long as a SHA-256


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client's right to call. Whoever has the secret has the right, so no message or log shows it."""

    id: TokenId
    secret: Digest32

    def __repr__(self) -> str:
        return f"Token({self.id})"


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a token may do. None: no limit of its own."""

    model: Annotated[str, Meta(pattern=r"^[0-9a-f]{8,64}\Z")] | None = None  # how the model's digest begins
    rows: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None  # of its calls in flight, all connections together
    rate: Annotated[float, Meta(gt=0, le=1e9)] | None = None  # rows a second
    expires: Moment | None = None
    admin: bool = False  # may drain the processor


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token as its processor's host knows it. The secret cannot be found from it."""

    name: Annotated[str, Meta(pattern=rf"^{NAME}\Z")]
    token: TokenId
    verifier: Digest32
    scope: Scope
    granted: Moment
    revoked: Moment | None = None  # kept, so that its holder can be told


def checked_grant(grant: Grant) -> Grant:
    """`grant`, which a person asked for; ConfigurationError that names what in it cannot be."""
    if not re.fullmatch(NAME, grant.name, re.ASCII):
        raise ConfigurationError(
            "a token's name is 1 to 64 letters, digits, '-', '_' or '.', and does not begin with '.'"
        )
    try:
        return msgspec.convert(msgspec.to_builtins(grant), Grant)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"such a token cannot be granted ({error}); see twofold keys grant --help") from error


class Invitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach one processor, and as whom."""

    place: str  # HOST:PORT
    fingerprint: Digest32  # SHA-256 of its certificate, DER
    token: Token


def verifier_of(secret: bytes) -> bytes:
    """What is kept of a secret to know it again: 32 bytes. The secret is random, so no salt or stretching is needed."""
    return hashlib.sha256(secret).digest()


def lapse(grant: Grant, now: float) -> str | None:
    """What became of a grant that is no longer in force at `now` (seconds since 1970); None if it is."""
    if grant.revoked is not None:
        return f"was revoked on {moment_text(grant.revoked)}"
    if grant.scope.expires is not None and now >= grant.scope.expires:
        return f"expired on {moment_text(grant.scope.expires)}"
    return None


def moment_text(moment: float) -> str:
    """A moment for people: `2026-11-22 09:30:00 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def duration(text: str) -> Seconds | None:
    """`30d`, `12h`, `90m`, `45s` or `2w` in seconds; None if it is not of that form or over 100 years."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit()) or len(number) > 10:
        return None
    seconds = int(number) * _UNITS[unit]
    return Seconds(seconds) if 0 < seconds <= 100 * 366 * 86400 else None
