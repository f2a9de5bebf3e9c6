"""A real weight processor that asks for tokens: who is served, who is not, and how much."""

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from strangers import control, exactly
from toy_processor import BLOCK, DIGEST, ToyService

from twofold import link
from twofold.errors import InternalError, ProcessorLost, Refused
from twofold.link.base import Connection
from twofold.link.exposure import Tokens
from twofold.processor.weight import WeightProcessor
from twofold.store import keys
from twofold.store.grant import Grant, Invitation, Scope, Token, UnixSeconds, verifier_of
from twofold.units import Nanoseconds, Seconds
from twofold.wire.frame import CALL, HEADER_BYTES, REPLY, Header, pack, unpack
from twofold.wire.message import AskStatus, Challenge, Failed, Hello, Message, Ping, Pong, Welcome, decode
from twofold.wire.rows import Layout, Rows
from twofold.wire.status import Status
from twofold.wire.token import NO_FINGERPRINT, proved

SOON = Seconds(5.0)
PATIENCE_SECONDS = 10.0


class Counted(ToyService):
    """A toy that remembers how many rows it worked on each time."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def native_segments(self) -> None:
        return None

    def work(self, segment: int, rows: Rows, count: int) -> Nanoseconds:
        self.counts.append(count)
        return super().work(segment, rows, count)


class Guarded:
    """A weight processor that asks for tokens, and the two hosts' folders."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.clients, self._monkeypatch = folder / "server", folder / "clients", monkeypatch
        self.service = Counted()
        self.url = ""

    def granted(self, name: str, **scope: Any) -> Token:
        """A token that the server has granted."""
        token = Token(secrets.token_hex(8), secrets.token_bytes(32))
        now = UnixSeconds(int(time.time()))
        keys.add_grant(self.folder, Grant(name, token.id, verifier_of(token.secret), Scope(**scope), now))
        return token

    def connect(self, token: Token | None, **options: Any) -> Connection:
        """A connection from a host that has joined with `token`, or not at all."""
        home = self.clients / secrets.token_hex(4)
        self._monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
        if token:
            keys.join(keys.keys_folder(), Invitation(self.url.removeprefix("tcp://"), bytes(32), token))
        return link.connect(self.url, **options)

    @contextlib.contextmanager
    def welcomed(self, token: Token) -> Iterator[socket.socket]:
        """A socket to the processor after the handshake."""
        with self.raw() as sock:
            sock.sendall(control(proof(token, challenged(sock, token))))
            assert isinstance(answer(sock), Welcome)
            yield sock

    def raw(self) -> socket.socket:
        """A socket to the processor, and nothing said."""
        sock = socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])))
        sock.settimeout(PATIENCE_SECONDS)
        return sock


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    server = Guarded(tmp_path, monkeypatch)
    with serving(server):
        yield server


@contextlib.contextmanager
def serving(server: Guarded) -> Iterator[None]:
    """Inside the block it serves, on a port of its own."""
    listener = link.listen("tcp://127.0.0.1:0", Tokens(in_force=1, asked=True))
    server.url = listener.url
    processor = WeightProcessor(server.service, [listener], keys=server.folder)
    thread = threading.Thread(target=processor.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.service.release.set()
        processor.stop()
        thread.join(10)
        assert not thread.is_alive()


def works(connection: Connection, count: int = 1, deadline: Seconds = SOON) -> bool:
    rows = Rows(connection.layout)
    rows["ids"][:count] = 21
    connection.call(rows, 0, count, deadline)
    return bool((rows["carry"][:count] == 42).all())


def challenged(sock: socket.socket, token: Token) -> bytes:
    """The nonce that a connection which names `token` is challenged with."""
    sock.sendall(control(Hello(token=token.id)))
    said = answer(sock)
    assert isinstance(said, Challenge)
    return said.nonce


def proof(token: Token, nonce: bytes, moment: Nanoseconds | None = None) -> Hello:
    """The Hello that answers the challenge, by a clock that shows `moment`, or the right time."""
    now = Nanoseconds(time.time_ns()) if moment is None else moment
    return proved(Hello(), token, NO_FINGERPRINT, time=now, nonce=nonce)


def answer(sock: socket.socket) -> Message:
    return decode(exactly(sock, unpack(exactly(sock, HEADER_BYTES)).length))


def test_who_has_joined_is_served(guarded: Guarded) -> None:
    connection = guarded.connect(guarded.granted("laptop", model=DIGEST[:8], rows=256, rate=1e6), digest=DIGEST)
    assert works(connection)
    assert connection.ask(Ping(), SOON) == Pong()
    connection.close()


REFUSED: dict[str, tuple[Callable[[Guarded], Token | None], str]] = {
    "no token": (lambda _: None, "asks for a token"),
    "unknown": (lambda _: Token("f" * 16, bytes(32)), "token f{16} is not known here"),
    "another secret": (lambda g: Token(g.granted("laptop").id, bytes(32)), "proof of token 'laptop' is wrong"),
    "expired": (lambda g: g.granted("laptop", expires=1), "token 'laptop' expired on 1970-01-01"),
    "another model": (lambda g: g.granted("laptop", model="feedface"), "token 'laptop' is for model feedface"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anybody_else_is_told_why_not_and_disturbs_nobody(guarded: Guarded, case: str) -> None:
    good = guarded.connect(guarded.granted("good"))
    make, words = REFUSED[case]
    with pytest.raises(Refused, match=words):
        guarded.connect(make(guarded))
    assert works(good)
    good.close()


def test_a_wrong_clock_is_told_both_times(guarded: Guarded) -> None:
    token = guarded.granted("laptop")
    with guarded.raw() as sock:
        sock.sendall(control(proof(token, challenged(sock, token), Nanoseconds(0))))
        said = answer(sock)
    assert isinstance(said, Failed)
    assert said.kind == "Refused"
    assert "client 1970-01-01 00:00:00 UTC, weight processor 2" in said.message


def test_a_recorded_handshake_is_useless(guarded: Guarded) -> None:
    token = guarded.granted("laptop")
    with guarded.raw() as first, guarded.raw() as second, guarded.raw() as third:
        recorded = control(proof(token, challenged(first, token)))
        first.sendall(recorded)
        assert isinstance(answer(first), Welcome)
        challenged(second, token)
        for sock in (second, third):  # in the place of the proof, and of the whole handshake
            sock.sendall(recorded)
        assert isinstance(answer(third), Challenge)
        third.sendall(recorded)
        for sock in (second, third):
            said = answer(sock)
            assert isinstance(said, Failed)
            assert "proof of token 'laptop' is wrong" in said.message
            assert sock.recv(1) == b""


def test_a_recorded_handshake_is_useless_after_a_restart_and_at_another_processor(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = guarded.granted("laptop")
    with guarded.raw() as sock:
        recorded = control(proof(token, challenged(sock, token)))
        sock.sendall(recorded)
        assert isinstance(answer(sock), Welcome)
    other = Guarded(tmp_path, monkeypatch)  # the same folder of tokens
    with serving(other), other.raw() as sock:
        challenged(sock, token)
        sock.sendall(recorded)
        said = answer(sock)
        assert isinstance(said, Failed)
        assert "proof of token 'laptop' is wrong" in said.message


def test_one_connection_is_challenged_once(guarded: Guarded) -> None:
    token = guarded.granted("laptop")
    with guarded.raw() as sock:
        challenged(sock, token)
        sock.sendall(control(Hello(token=token.id)))
        assert isinstance(answer(sock), Failed)
        assert sock.recv(1) == b""


def test_a_token_granted_while_it_serves_is_good_at_once(guarded: Guarded) -> None:
    for name in ("one", "two"):
        connection = guarded.connect(guarded.granted(name))
        assert works(connection)
        connection.close()


def test_a_revoked_token_ends_its_connections_and_calls_and_nobody_elses(guarded: Guarded) -> None:
    token = guarded.granted("laptop", rate=1.0)
    waiting, staying = guarded.connect(token), guarded.connect(guarded.granted("phone"))
    assert works(waiting, 200)
    rows = Rows(waiting.layout)
    waiting.begin(rows, 0, 1, Seconds(60.0))  # for more than three minutes nothing of it may start
    keys.revoke(guarded.folder, "laptop", UnixSeconds(int(time.time())))
    with pytest.raises(Refused, match="token 'laptop' was revoked on"):
        guarded.connect(token)
    with pytest.raises(Refused, match="token 'laptop' was revoked on"):
        waiting.finish()
    with pytest.raises(ProcessorLost):
        works(waiting)
    assert works(staying)
    for connection in (waiting, staying):
        connection.close()


def test_who_waits_for_nothing_is_told_of_the_end_of_its_token(guarded: Guarded) -> None:
    token = guarded.granted("laptop", expires=int(time.time()) + 2)
    with guarded.welcomed(token) as sock:
        said = answer(sock)
        assert isinstance(said, Failed)
        assert "token 'laptop' expired on" in said.message
        assert sock.recv(1) == b""


def test_tokens_that_cannot_be_read_any_more_stay_as_they_were(guarded: Guarded) -> None:
    token = guarded.granted("laptop")
    first = guarded.connect(token)
    (guarded.folder / keys.GRANTS).write_bytes(b"{")
    second = guarded.connect(token)
    assert works(first)
    assert works(second)
    for connection in (first, second):
        connection.close()


def test_a_client_is_told_how_many_rows_its_calls_may_have_and_held_to_it(guarded: Guarded) -> None:
    connection = guarded.connect(guarded.granted("laptop", rows=7))
    assert (connection.layout.rows, connection.layout.head_rows) == (7, 7)
    assert works(connection, 7)
    rows = Rows(connection.layout)
    with pytest.raises(InternalError, match="takes 1 to 7"):
        connection.call(rows, 0, 8, SOON)
    connection.close()


def test_a_client_that_sends_more_rows_than_it_was_told_is_refused(guarded: Guarded) -> None:
    layout = guarded.service.layout
    with guarded.welcomed(guarded.granted("rude", rows=7)) as sock:
        sock.sendall(call(layout, 8, 1, 10**9))
        said = answer(sock)
        assert isinstance(said, Failed)
        assert "CALL of 8 rows; segment 0 takes 1 to 7" in said.message
    assert not guarded.service.counts


def test_a_client_that_dies_leaves_its_token_as_if_it_had_not_called(guarded: Guarded) -> None:
    service, token = guarded.service, guarded.granted("laptop", rows=1)
    held = guarded.connect(guarded.granted("holder"))
    blocked = Rows(held.layout)
    blocked["ids"][0] = BLOCK
    dying, waiting, living = (guarded.connect(token) for _ in range(3))
    rows = Rows(dying.layout)
    held.begin(blocked, 0, 1, SOON)
    assert service.entered.wait(PATIENCE_SECONDS)
    for connection in (dying, waiting):
        connection.begin(rows, 0, 1, SOON)
        connection.close()
    service.release.set()
    held.finish()
    assert works(living)
    for connection in (held, living):
        connection.close()


def test_rows_of_one_token_at_work_stay_within_its_bound_over_all_connections(guarded: Guarded) -> None:
    service, token = guarded.service, guarded.granted("laptop", rows=2)
    held = guarded.connect(guarded.granted("holder"))
    several = [guarded.connect(token) for _ in range(5)]
    all_rows = [Rows(connection.layout) for connection in several]
    blocked = Rows(held.layout)
    blocked["ids"][0] = BLOCK
    held.begin(blocked, 0, 1, SOON)
    assert service.entered.wait(PATIENCE_SECONDS)
    for connection, rows in zip(several, all_rows, strict=True):
        rows["ids"][0] = 3
        connection.begin(rows, 0, 1, SOON)
    service.release.set()
    held.finish()
    for connection, rows in zip(several, all_rows, strict=True):
        connection.finish()
        assert (rows["carry"][0] == 6).all()
    assert sum(service.counts[1:]) == 5
    assert max(service.counts[1:]) <= 2
    for connection in (held, *several):
        connection.close()


def test_a_token_has_no_more_rows_a_second_than_it_may_and_others_do_not_wait_for_it(guarded: Guarded) -> None:
    slow, free = guarded.connect(guarded.granted("slow", rate=100.0)), guarded.connect(guarded.granted("free"))
    start = time.monotonic()
    assert works(slow, 250)  # 100 were there, 150 are owed: a second and a half
    rows = Rows(slow.layout)
    rows["ids"][:1] = 3
    slow.begin(rows, 0, 1, SOON)
    for _ in range(10):
        assert works(free, 256)
    assert guarded.service.counts == [250] + 10 * [256]
    slow.finish()
    assert time.monotonic() - start >= 1.5
    assert guarded.service.counts[11:] == [1]
    for connection in (slow, free):
        connection.close()


def call(layout: Layout, count: int, sequence: int, nanoseconds: int) -> bytes:
    ids = bytes(4 * count)
    return pack(Header(CALL, layout.model, 0, count, sequence, nanoseconds, len(ids)), [ids]) + ids


def test_a_call_whose_deadline_passes_while_its_token_owes_is_answered_and_the_connection_goes_on(
    guarded: Guarded,
) -> None:
    layout = guarded.service.layout
    with guarded.welcomed(guarded.granted("slow", rate=2.0)) as sock:
        sock.sendall(call(layout, 4, 1, 10**9))  # two rows are owed: a second
        assert planes(sock, layout, 4)
        sock.sendall(call(layout, 1, 2, 10**7))
        said = answer(sock)
        assert isinstance(said, Failed)
        assert said.kind == "DeadlinePassed"
        sock.sendall(call(layout, 1, 3, 10**10))
        assert planes(sock, layout, 1)
    assert guarded.service.counts == [4, 1]


def planes(sock: socket.socket, layout: Layout, count: int) -> bool:
    """Whether the next frame is the reply to a call of `count` rows of segment 0."""
    header = unpack(exactly(sock, HEADER_BYTES))
    exactly(sock, header.length)
    return header.kind == REPLY and header.length == layout.payload_bytes(layout.cuts[0].gives, count)


def test_names_of_tokens_are_told_to_administrators_alone(guarded: Guarded) -> None:
    guest, admin = guarded.connect(guarded.granted("guest")), guarded.connect(guarded.granted("admin", admin=True))
    for connection, names in ((guest, {}), (admin, {"guest": 1, "admin": 1})):
        status = connection.ask(AskStatus(), SOON)
        assert isinstance(status, Status)
        assert (status.tokens, status.connections, status.owners) == (names, 2, 2)
        connection.ask(Ping(), SOON)
    guest.close()
    admin.close()
