"""TLS between both sides over a socket pair: the joined host is known again, and nobody else is believed."""

import hashlib
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from twofold.errors import ConfigurationError, Refused
from twofold.link import tls
from twofold.link.certificate import ALPN, calling_context, check_server, failure, serving_context, short
from twofold.store.certificate import self_signed
from twofold.store.keys import Identity, ensure_identity

URL = "tls://weights.example:7070"


def check(session: ssl.SSLSocket, fingerprint: bytes) -> None:
    check_server(session.getpeercert(binary_form=True) or b"", session.selected_alpn_protocol(), fingerprint, URL)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return ensure_identity(tmp_path_factory.mktemp("config") / "keys", lambda: self_signed(1_700_000_000))


@pytest.fixture
def server(identity: Identity) -> ssl.SSLContext:
    return serving_context(identity.path)


class Served(threading.Thread):
    """The connected-to end: it shakes hands, then echoes four bytes."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__()
        self.sock, self.context = sock, context
        self.error: ssl.SSLError | ConnectionError | None = None
        self.protocol: str | None = None

    def run(self) -> None:
        try:
            with self.context.wrap_socket(self.sock, server_side=True) as session:
                self.protocol = session.selected_alpn_protocol()
                session.sendall(session.recv(4))
        except (ssl.SSLError, ConnectionError) as error:
            self.error = error
        finally:
            self.sock.close()


@contextmanager
def pair(server: ssl.SSLContext) -> Iterator[tuple[socket.socket, Served]]:
    here, there = socket.socketpair()
    served = Served(there, server)
    for sock in (here, there):
        sock.settimeout(10)
    served.start()
    with closing(here):
        yield here, served
        here.close()
        served.join(10)
        assert not served.is_alive()


def legacy(context: ssl.SSLContext) -> ssl.SSLContext:
    """`context`, speaking TLS 1.2 and no later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_the_joined_host_is_known_again_and_bytes_cross_in_tls_1_3(server: ssl.SSLContext, identity: Identity) -> None:
    with pair(server) as (sock, served), calling_context().wrap_socket(sock) as session:
        check(session, identity.fingerprint)
        assert session.version() == "TLSv1.3"
        session.sendall(b"rows")
        assert session.recv(4) == b"rows"
    assert (served.error, served.protocol) == (None, "twofold")


def test_another_certificate_is_refused_naming_both(server: ssl.SSLContext, identity: Identity) -> None:
    joined = hashlib.sha256(b"another host").digest()
    with pair(server) as (sock, _), calling_context().wrap_socket(sock) as session:
        with pytest.raises(Refused, match="is not the host that was joined") as caught:
            check(session, joined)
        assert short(identity.fingerprint) in str(caught.value)
        assert short(joined) in str(caught.value)
        assert URL in str(caught.value)


@pytest.mark.parametrize("at", [0, 15, 31])
def test_every_byte_of_the_fingerprint_counts(server: ssl.SSLContext, identity: Identity, at: int) -> None:
    close = bytearray(identity.fingerprint)
    close[at] ^= 1
    with (
        pair(server) as (sock, _),
        calling_context().wrap_socket(sock) as session,
        pytest.raises(Refused, match="is not the host that was joined"),
    ):
        check(session, bytes(close))


def test_a_server_without_a_certificate_is_refused(identity: Identity) -> None:
    with pytest.raises(Refused, match="is not the host"):
        check_server(b"", "twofold", identity.fingerprint, URL)


def test_a_server_that_speaks_something_else_is_refused(identity: Identity) -> None:
    other = serving_context(identity.path)
    other.set_alpn_protocols(["http/1.1"])
    with (
        pair(other) as (sock, _),
        calling_context().wrap_socket(sock) as session,
        pytest.raises(Refused, match="does not speak Twofold"),
    ):
        check(session, identity.fingerprint)


def test_a_client_of_tls_1_2_is_refused(server: ssl.SSLContext) -> None:
    with pair(server) as (sock, served), pytest.raises(ssl.SSLError) as caught:
        legacy(calling_context()).wrap_socket(sock)
    assert served.error is not None
    assert str(failure(caught.value, URL)).startswith(f"no TLS 1.3 with {URL} (tlsv1 alert protocol version)")


def test_a_server_of_tls_1_2_is_refused(identity: Identity) -> None:
    with pair(legacy(serving_context(identity.path))) as (sock, _), pytest.raises(ssl.SSLError):
        calling_context().wrap_socket(sock)


def test_a_server_that_does_not_speak_tls_is_refused_in_words() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(10)
        there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError) as caught:
            calling_context().wrap_socket(here)
    assert "wrong version number" in str(failure(caught.value, URL))


def test_nothing_comes_unasked_after_the_handshake(server: ssl.SSLContext) -> None:
    with pair(server) as (sock, _), calling_context().wrap_socket(sock) as session:
        session.settimeout(0.0)
        with pytest.raises(ssl.SSLWantReadError):
            session.recv(1)
        session.settimeout(10)
        assert session.session is None or not session.session.has_ticket


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    "content", [b"", b"not a certificate", self_signed(0)[:300], self_signed(0).replace(b"A", b"B")]
)
def test_a_file_without_key_and_certificate_is_refused_with_what_to_do(
    tmp_path: Path, content: bytes, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "identity.pem"
    path.write_bytes(content)
    if not native:
        monkeypatch.setattr(tls, "openssl", lambda: None)
    with pytest.raises(ConfigurationError, match=r"holds no key and certificate.*twofold keys") as caught:
        tls.serving_tls(path, ALPN)
    assert str(caught.value).isprintable()


def test_a_fingerprint_is_shown_so_that_people_can_compare_it() -> None:
    assert short(bytes(range(0x10, 0x30))) == "1011 1213 1415 1617"
