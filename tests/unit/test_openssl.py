"""TLS whose bytes native code moves: the same link as by Python's ssl, and no peer breaks more than its own."""

import _ssl
import contextlib
import ctypes
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from toy_processor import Asker, ToyService, connect, join, serving

from twofold.errors import ProcessorLost, Refused
from twofold.link import tls
from twofold.link.certificate import ALPN, calling_context, failure, serving_context
from twofold.link.openssl import Context, OpenSsl, Session, openssl
from twofold.link.port import What
from twofold.link.tls import TlsChannel, TlsFlow
from twofold.store import keys
from twofold.store.certificate import self_signed
from twofold.units import Seconds
from twofold.wire.frame import CONTROL, Header, pack

SOON = Seconds(5.0)
MESSAGE = pack(Header(CONTROL, length=4), [b"rows"]) + b"rows"

pytestmark = pytest.mark.skipif(openssl() is None, reason="OpenSSL cannot be called beside this Python's ssl module")


@pytest.fixture
def functions() -> OpenSsl:
    found = openssl()
    assert found
    return found


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keys.ensure_identity(tmp_path_factory.mktemp("config") / "keys", lambda: self_signed(1_700_000_000)).path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of its own, with a certificate."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    join("tls://127.0.0.1:0")


def by_python(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    found = openssl()
    monkeypatch.setattr(tls, "openssl", lambda: None if wanted else found)


def planes(connection: Asker, ids: list[int]) -> bytes:
    """The bits of everything that two calls give."""
    connection.rows["ids"][: len(ids), 0] = ids
    connection.call(0, len(ids), SOON)
    carry = connection.rows["carry"][: len(ids)].tobytes()
    connection.call(1, len(ids), SOON)
    return carry + connection.rows["logits"][: len(ids)].tobytes()


@pytest.mark.parametrize("calling", [True, False])
@pytest.mark.parametrize("serving_so", [True, False])
def test_native_and_python_understand_each_other_and_give_the_same_bits(
    here: None, monkeypatch: pytest.MonkeyPatch, serving_so: bool, calling: bool
) -> None:
    by_python(monkeypatch, serving_so)
    with serving("tls://127.0.0.1:0", ToyService()) as processor:
        by_python(monkeypatch, calling)
        connection = connect(join(processor.urls[0]))
        assert (connection.connection.port(connection.rows) is None) == calling  # native calls, unless by Python
        for count in (1, 2, 32):
            ids = np.arange(1, count + 1, dtype=np.float32)
            carry = np.repeat(2 * ids, 1024).tobytes()
            logits = np.repeat(2 * 1024 * ids + 1, 4096).astype(np.float32).tobytes()
            assert planes(connection, list(range(1, count + 1))) == carry + logits
        connection.close()


@pytest.mark.parametrize("python", [True, False])
def test_another_certificate_than_the_joined_one_is_refused(
    here: None, monkeypatch: pytest.MonkeyPatch, python: bool
) -> None:
    by_python(monkeypatch, python)
    with serving("tls://127.0.0.1:0", ToyService()) as processor:
        url = join(processor.urls[0])
        joined = keys.hosts(keys.keys_folder())[-1]
        keys.join(keys.keys_folder(), type(joined)(joined.place, bytes(31) + b"x", joined.token))
        with pytest.raises(Refused, match=f"{url} is not the host that was joined: its certificate is .* join again"):
            connect(url)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", bytes(300), MESSAGE])
def test_a_stranger_without_tls_is_shown_out_and_the_others_are_served(here: None, said: bytes) -> None:
    with serving("tls://127.0.0.1:0", ToyService(), handshake=0.3) as processor:
        url = join(processor.urls[0])
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 5) as stranger:
            stranger.sendall(said)
            with contextlib.suppress(ConnectionError):
                assert len(stranger.recv(1000)) <= 7  # an alert, or nothing: late, or no TLS
                assert stranger.recv(1000) == b""
            connection = connect(url)
            assert planes(connection, [1])
            connection.close()


class Wire:
    """Two sessions, and the bytes between them as the test passes them on."""

    def __init__(self, functions: OpenSsl, identity: Path, *, tickets: int = 0) -> None:
        self.client_socket, self.client_end = socket.socketpair()
        server_socket, self.server_end = socket.socketpair()
        for sock in (self.client_socket, self.client_end, self.server_end):
            sock.setblocking(False)
        context = Context(functions, ALPN, identity=identity)
        functions.set_tickets(context.address, tickets)
        self.server = Session(context, server_socket)
        self.channel = TlsChannel(server_socket, self.server, "client")
        self.client = Session(Context(functions, ALPN), self.client_socket)
        while not self.client.shake():
            self.move()
            assert self.channel.read() == What.NOTHING
            self.move()
        self.move()

    def move(self, change: Callable[[bytes], bytes] = lambda data: data) -> None:
        """Pass on what has been sent, both ways; `change`: what becomes of that of the client."""
        for source, target, treat in (
            (self.client_end, self.server_end, change),
            (self.server_end, self.client_end, lambda data: data),
        ):
            with contextlib.suppress(BlockingIOError):
                target.sendall(treat(source.recv(1 << 20)))

    def hang_up(self) -> None:
        """No byte comes from the client any more."""
        self.server_end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.channel.close()
        for sock in (self.client_socket, self.client_end, self.server_end):
            sock.close()


@pytest.fixture
def wire(functions: OpenSsl, identity: Path) -> Iterator[Wire]:
    made = Wire(functions, identity)
    yield made
    made.close()


def lost(wire: Wire) -> str:
    """How the server's port says that the link is lost."""
    what = wire.channel.read()
    assert what == What.LOST
    error = wire.channel.port.error(what, "client")
    assert isinstance(error, ProcessorLost)
    return str(error)


def test_a_frame_crosses_whole_however_its_bytes_arrive(wire: Wire) -> None:
    wire.client.send([MESSAGE])
    records = wire.client_end.recv(1 << 20)
    assert b"rows" not in records
    for at in range(len(records)):
        assert wire.channel.read() == What.NOTHING
        wire.server_end.sendall(records[at : at + 1])
    assert wire.channel.read() == What.MESSAGE


@pytest.mark.parametrize("at", [0, 1, 2, 5, 40, -1])
def test_a_damaged_record_ends_the_link_with_what_broke_it(wire: Wire, at: int) -> None:
    def damaged(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= 0x40
        return bytes(changed)

    wire.client.send([MESSAGE])
    wire.move(damaged)
    assert re.search("bad record mac|wrong version number|bad record type", lost(wire))


@pytest.mark.parametrize("kept", [0, 3, 30])
def test_a_link_that_is_cut_short_is_lost(wire: Wire, kept: int) -> None:
    wire.client.send([MESSAGE])
    wire.move(lambda data: data[:kept])
    assert wire.channel.read() == What.NOTHING
    wire.hang_up()
    assert "closed the link" in lost(wire)


def test_tickets_and_new_keys_may_come_between_frames(functions: OpenSsl, identity: Path) -> None:
    update = ctypes.CDLL(_ssl.__file__).SSL_key_update
    update.argtypes = (ctypes.c_void_p, ctypes.c_int)
    wire = Wire(functions, identity, tickets=2)
    view = memoryview(bytearray(100))
    for asks in (0, 1):  # SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED
        for _ in range(3):
            assert update(wire.client._ssl, asks) == 1
            wire.client.send([MESSAGE])
            wire.move()
            seen = [wire.channel.read() for _ in range(3)]
            assert [what for what in seen if what] == [What.MESSAGE]
            assert wire.server.send([b"answer"]) == 6
            wire.move()
            assert arrived(wire.client, view) == b"answer"
    wire.close()


def arrived(session: Session, view: memoryview) -> bytes:
    """What comes, after whatever TLS has to say before it."""
    for _ in range(4):
        with contextlib.suppress(BlockingIOError):
            return bytes(view[: session.receive(view)])
    return b""


def shaken(client: Session | TlsFlow, server: Session | TlsFlow) -> str:
    """What the client says of a handshake between the two."""
    view = memoryview(bytearray(1))
    try:
        for _ in range(4):
            client.shake()
            with contextlib.suppress(OSError):
                server.receive(view)
    except OSError as error:
        return str(failure(error, "tls://h:1"))
    return "done"


@pytest.mark.parametrize("old", ["client", "server"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_2:DeprecationWarning")
def test_tls_1_2_is_refused(functions: OpenSsl, identity: Path, old: str) -> None:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    context = calling_context() if old == "client" else serving_context(identity)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    other = TlsFlow(tls.SocketFlow(theirs), context, serving=old == "server")
    native = Session(Context(functions, ALPN, identity=identity if old == "client" else None), ours)
    with ours, theirs:
        said = shaken(other, native) if old == "client" else shaken(native, other)
    assert said.startswith("no TLS 1.3 with tls://h:1 (")
    assert "protocol version" in said
