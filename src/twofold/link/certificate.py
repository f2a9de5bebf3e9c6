"""TLS for both sides of a link: version 1.3 alone; the fingerprint of its certificate makes the server known."""

import hashlib
import hmac
import ssl
from pathlib import Path

from twofold.errors import ConfigurationError, Refused

ALPN, HTTP_ALPN = (
    "twofold",
    "http/1.1",
)  # without a version: the handshake inside says which versions differ, a TLS alert would not


def serving_context(identity: Path, alpn: str = ALPN) -> ssl.SSLContext:
    """The side that is connected to, with the key and certificate in the PEM file `identity`; ConfigurationError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(identity)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise unfit(identity, _reason(error)) from error
    context.num_tickets = 0  # nobody resumes a session, and nothing comes unasked after the handshake
    return _restricted(context, alpn)


def calling_context(alpn: str = ALPN) -> ssl.SSLContext:
    """The side that connects. It believes no authority: `check_server` must follow the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _restricted(context, alpn)


def check_server(certificate: bytes, protocol: str | None, fingerprint: bytes, url: str, alpn: str = ALPN) -> None:
    """Raise Refused unless the server at `url` has the certificate of `fingerprint` and speaks `alpn`.

    `certificate`: that it has shown, DER, or nothing; `protocol`: that was chosen. Nothing may be sent to it before:
    the TLS handshake proved only that it has the key of its own certificate.
    """
    shown = hashlib.sha256(certificate).digest()
    if not hmac.compare_digest(shown, fingerprint):
        raise Refused(
            f"{url} is not the host that was joined: its certificate is {short(shown)}, the join link said "
            f"{short(fingerprint)}; check the address, or ask for a new join link (twofold keys grant) and join again"
        )
    if protocol != alpn:
        raise Refused(f"{url} does not speak Twofold; check the port")


def unfit(identity: Path, why: str) -> ConfigurationError:
    """What a PEM file is refused with."""
    return ConfigurationError(
        f"{identity} holds no key and certificate that fit ({why}); "
        "remove it and make another with: twofold keys (all clients have to join again)"
    )


def failure(error: OSError, url: str) -> Refused:
    """What a TLS handshake with `url` that failed with `error` comes to."""
    return Refused(f"no TLS 1.3 with {url} ({_reason(error)}); check that a tls:// address of Twofold is there")


def short(fingerprint: bytes) -> str:
    """The beginning of a fingerprint, for people to compare: `3fa1 90c2 77de 01b4`."""
    return fingerprint[:8].hex(" ", 2)


def _restricted(context: ssl.SSLContext, alpn: str) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([alpn])
    return context


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(reason).lower().replace("_", " ")
