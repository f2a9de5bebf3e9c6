"""Tokens: the text of a join link, and the proof that a client has a token's secret. No sockets, no files.

A join link is what one person sends another:

    twofold://HOST:PORT/#<base64url of: version 1 byte, fingerprint 32, token id 8, secret 32, check 4>

The check is the beginning of SHA-256 of what precedes it, against slips of copying. HOST:PORT is outside of it: who
arrives at a wrong place is refused by the fingerprint, and a host may have several names.

The proof is that of SCRAM (RFC 5802, section 3) with a random secret in the place of a password:

    verifier = SHA-256(secret)                                 all that the processor's host keeps
    proof    = secret XOR HMAC-SHA-256(verifier, claim)        claim: what this Hello says, to which certificate, when,
                                                               on which connection

The verifier checks a proof, and cannot make one; a proof without the verifier says nothing of the secret. The nonce of
the server's Challenge is what makes a proof good for one connection.
"""

import base64
import binascii
import hashlib
import hmac
import re

import msgspec

from twofold.errors import ConfigurationError
from twofold.store.grant import FINGERPRINT_BYTES, ID_BYTES, SECRET_BYTES, Invitation, Token, verifier_of
from twofold.units import Nanoseconds
from twofold.wire.message import Hello

SCHEME = "twofold://"
VERSION = 1
NO_FINGERPRINT = bytes(FINGERPRINT_BYTES)  # of a link without a certificate
CHECK_BYTES = 4

_BODY_BYTES = 1 + FINGERPRINT_BYTES + ID_BYTES + SECRET_BYTES
_LABEL = b"twofold-token-2"
_HOST = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253}", re.ASCII)
_REMEDY = "copy the whole line that `twofold keys grant` printed"


def link_text(invitation: Invitation) -> str:
    """The join link of `invitation`; it holds the secret."""
    token = invitation.token
    body = bytes([VERSION]) + invitation.fingerprint + bytes.fromhex(token.id) + token.secret
    return f"{SCHEME}{invitation.place}/#{_encoded(body + _check(body))}"


def parse_link(text: str) -> Invitation:
    """The invitation in a join link; ConfigurationError, which shows nothing of the secret, if it is none."""
    place, mark, fragment = text.strip().removeprefix(SCHEME).partition("/#")
    if not text.strip().startswith(SCHEME) or not mark:
        raise ConfigurationError(f"that is not a join link, {SCHEME}HOST:PORT/#...; {_REMEDY}")
    body = _decoded(fragment)
    return Invitation(
        place=place_of(place),
        fingerprint=body[1 : 1 + FINGERPRINT_BYTES],
        token=Token(body[1 + FINGERPRINT_BYTES : -SECRET_BYTES].hex(), body[-SECRET_BYTES:]),
    )


def place_of(text: str) -> str:
    """HOST:PORT in the one spelling that places are compared by; ConfigurationError if it is not of that form."""
    host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host) or not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        raise ConfigurationError(f"{text[:80]!r} is not HOST:PORT; write it like weights.example:7070 or [::1]:7070")
    return f"{host.lower()}:{int(port)}"


def proved(hello: Hello, token: Token, fingerprint: bytes, *, time: Nanoseconds, nonce: bytes) -> Hello:
    """`hello` with the proof of `token`, for the processor whose certificate has `fingerprint`.

    `time`: now, since 1970; `nonce`: of the Challenge that this answers.
    """
    claim = msgspec.structs.replace(hello, token=token.id, time=time, proof=b"")
    mask = _mask(verifier_of(token.secret), claim, fingerprint, nonce)
    return msgspec.structs.replace(claim, proof=_xor(token.secret, mask))


def is_proved(hello: Hello, verifier: bytes, fingerprint: bytes, nonce: bytes) -> bool:
    """Whether `hello` was made with the secret of `verifier`, and not changed since.

    For the processor with `fingerprint`, and for the Challenge of `nonce`.
    """
    if len(hello.proof) != SECRET_BYTES:
        return False
    secret = _xor(hello.proof, _mask(verifier, hello, fingerprint, nonce))
    return hmac.compare_digest(verifier_of(secret), verifier)


def _mask(verifier: bytes, claim: Hello, fingerprint: bytes, nonce: bytes) -> bytes:
    parts = (
        _LABEL,
        fingerprint,
        claim.token.encode(),
        claim.time.to_bytes(16, "little", signed=True),
        nonce,
        (claim.digest or "").encode(),
        claim.owner.encode(),
    )
    framed = b"".join(len(part).to_bytes(4, "little") + part for part in parts)  # so that no two claims run together
    return hmac.digest(verifier, framed, hashlib.sha256)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:CHECK_BYTES]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(fragment: str) -> bytes:
    """The body of a join link."""
    try:
        data = base64.b64decode(fragment + "=" * (-len(fragment) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        data = b""
    if not data or _encoded(data) != fragment:
        raise ConfigurationError(f"the join link has letters that it cannot have; {_REMEDY}")
    if data[0] != VERSION:
        raise ConfigurationError(
            f"the join link is of version {data[0]}, this program reads {VERSION}; "
            "install the same Twofold on both sides"
        )
    if len(data) != _BODY_BYTES + CHECK_BYTES:
        raise ConfigurationError(f"the join link is not whole; {_REMEDY}")
    body, check = data[:_BODY_BYTES], data[_BODY_BYTES:]
    if check != _check(body):
        raise ConfigurationError(f"the join link is damaged; {_REMEDY}")
    return body
