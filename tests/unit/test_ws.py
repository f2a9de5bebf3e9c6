"""WebSockets as strangers use them, against a running server: raw bytes, and a client of no code of ours."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strangers import control, exactly
from toy_processor import Asker, ToyService, connect, join, serving

from twofold.errors import ConfigurationError, DeadlinePassed, FrameError, Refused
from twofold.link import listen, listen_at
from twofold.link.exposure import NO_TOKENS, Tokens
from twofold.link.flow import Parts
from twofold.link.ws import EMPTY_EVENTS, WsServing
from twofold.processor.weight import WeightProcessor
from twofold.units import Seconds
from twofold.wire.frame import CONTROL, HEADER_BYTES, Header, pack, unpack
from twofold.wire.message import (
    AskTokenizer,
    Failed,
    Hello,
    Message,
    TokenizerReply,
    Welcome,
    decode,
)

SOON = Seconds(5.0)
TEXT, BINARY, CLOSE, PING, PONG, CONTINUED = 1, 2, 8, 9, 10, 0
REQUEST = (
    b"GET /twofold HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def processor() -> Iterator[WeightProcessor]:
    with serving("ws://127.0.0.1:0", ToyService()) as processor:
        yield processor


@contextlib.contextmanager
def raw(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 5) as sock:
        yield sock


@contextlib.contextmanager
def upgraded(url: str) -> Iterator[socket.socket]:
    with raw(url) as sock:
        sock.sendall(REQUEST)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(sock, 1)
        assert head.startswith(b"HTTP/1.1 101 ")
        yield sock


def message(kind: int, payload: bytes, *, last: bool = True, masked: bool = True) -> bytes:
    """One frame of RFC 6455, section 5.2."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
    mask = os.urandom(4)
    body = mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if masked else payload
    return bytes([kind | 128 * last, length[0] | 128 * masked]) + length[1:] + body


def received(sock: socket.socket) -> tuple[int, bytes]:
    """The next frame from the server, which is whole and has no mask."""
    first, size = exactly(sock, 2)
    assert first & 0xF0 == 0x80
    if size == 126:
        (size,) = struct.unpack(">H", exactly(sock, 2))
    elif size == 127:
        (size,) = struct.unpack(">Q", exactly(sock, 8))
    return first & 15, exactly(sock, size)


def heard(sock: socket.socket) -> Message:
    """The message that the next frame carries, alone."""
    kind, data = received(sock)
    assert kind == BINARY
    assert unpack(data[:HEADER_BYTES]).length == len(data) - HEADER_BYTES
    return decode(data[HEADER_BYTES:])


def failure(sock: socket.socket) -> str:
    """What the server says at the end of the link: a Failed, then a Close, then nothing."""
    said = heard(sock)
    assert isinstance(said, Failed)
    assert received(sock)[0] == CLOSE
    with contextlib.suppress(ConnectionError):
        assert sock.recv(1) == b""
    return said.message


def everything(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            data += piece
    return data


def still_serves(connection: Asker) -> bool:
    connection.rows["ids"][0] = 21
    connection.call(0, 1, SOON)
    return bool((connection.rows["carry"][0] == 42).all())


def test_a_client_of_no_code_of_ours_is_welcomed_in_one_message(processor: WeightProcessor) -> None:
    with upgraded(processor.urls[0]) as sock:
        sock.sendall(message(BINARY, control(Hello())))
        assert isinstance(heard(sock), Welcome)
        sock.sendall(message(BINARY, control(AskTokenizer())))
        assert heard(sock) == TokenizerReply(b"tokens" * 50_000)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=12))
def test_frames_may_be_cut_into_messages_and_fragments_in_any_way(
    processor: WeightProcessor, cuts: list[tuple[int, bool]]
) -> None:
    data, kind, sent = control(Hello()), BINARY, b""
    for size, last in cuts:
        sent += message(kind, data[:size], last=last)
        data, kind = data[size:], BINARY if last else CONTINUED
    with upgraded(processor.urls[0]) as sock:
        sock.sendall(sent + message(PING, b"between") + message(kind, data))
        found = [received(sock), received(sock)]
        assert (PONG, b"between") in found
        assert any(kind == BINARY and isinstance(decode(data[HEADER_BYTES:]), Welcome) for kind, data in found)


NO_FRAMES = {
    "text": (message(TEXT, b"hello"), "frames are binary messages"),
    "no mask": (message(BINARY, b"hello", masked=False), "unmasked"),
    "no such kind": (message(5, b""), "no WebSocket"),
    "a long ping": (message(PING, bytes(126)), "no WebSocket"),
    "a ping in fragments": (message(PING, b"", last=False), "no WebSocket"),
    "a fragment of nothing": (message(CONTINUED, b"x"), "no WebSocket"),
    "compression": (bytes([0xC2, 0x80, 0, 0, 0, 0]), "no WebSocket"),
    "an absurd length": (bytes([0x82, 0xFF]) + b"\xff" * 12, "no WebSocket"),
    "another magic": (message(BINARY, bytes(HEADER_BYTES)), "not a Twofold frame"),
    "more than is taken here": (message(BINARY, pack(Header(CONTROL, length=65 * 1024))), "more than is taken here"),
    "two frames": (message(BINARY, control(Hello()) * 2), "came with more"),
    "nothing, often": (message(BINARY, b"") * 200, f"more than {EMPTY_EVENTS} pings or empty messages"),
    "pongs, often": (message(PONG, b"") * 200, f"more than {EMPTY_EVENTS} pings or empty messages"),
}


@pytest.mark.parametrize(("data", "words"), NO_FRAMES.values(), ids=NO_FRAMES)
def test_what_is_no_binary_message_ends_the_link_and_disturbs_nobody(
    processor: WeightProcessor, data: bytes, words: str
) -> None:
    good = connect(processor.urls[0])
    with upgraded(processor.urls[0]) as sock:
        sock.sendall(data)
        assert words in failure(sock)
    assert still_serves(good)
    good.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: message(BINARY, b"2FLD\2\0" + tail))))
def test_random_bytes_disturb_nobody(processor: WeightProcessor, garbage: bytes) -> None:
    good = connect(processor.urls[0])
    with upgraded(processor.urls[0]) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        everything(sock)
    assert still_serves(good)
    good.close()


def test_a_close_is_answered_by_a_close(processor: WeightProcessor) -> None:
    with upgraded(processor.urls[0]) as sock:
        sock.sendall(message(CLOSE, struct.pack(">H", 1000)))
        assert received(sock)[0] == CLOSE
        assert everything(sock) == b""


class Stuck:
    """A flow that brings `REQUEST`, then `each` every time, and takes no more than the answer to the former."""

    def __init__(self, each: bytes) -> None:
        self.each = each
        self.taken = self.brought = 0

    def send(self, parts: Parts) -> int:
        if self.taken:
            raise BlockingIOError
        self.taken = sum(len(part) for part in parts)
        return self.taken

    def receive(self, view: memoryview) -> int:
        data = self.each if self.brought else REQUEST
        view[: len(data)] = data
        self.brought += 1
        return len(data)

    def pending(self) -> bool:
        return False

    def close(self) -> None:
        pass


def test_for_a_client_that_never_reads_one_pong_is_kept() -> None:
    stuck = Stuck(message(PING, bytes(125)))
    flow = WsServing(stuck, frozenset())
    for _ in range(100):
        with pytest.raises(BlockingIOError):
            flow.receive(memoryview(bytearray(64)))
    assert stuck.brought == 100
    assert len(flow._outbox) == 2 + 125


@pytest.mark.parametrize(
    ("end", "error"),
    [(message(CLOSE, struct.pack(">H", 1000)), ConnectionResetError), (message(TEXT, b""), FrameError)],
)
def test_what_came_before_the_end_is_received_before_it(end: bytes, error: type[Exception]) -> None:
    flow, view = WsServing(Stuck(message(BINARY, b"abc") + end), frozenset()), memoryview(bytearray(2))
    with pytest.raises(BlockingIOError):
        flow.receive(view)
    assert [flow.receive(view), bytes(view)] == [2, b"ab"]
    assert [flow.receive(view), flow.pending()] == [1, True]
    with pytest.raises(error):
        flow.receive(view)


@pytest.mark.parametrize("wrong", [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\x16\x03\x01" * 30, b"GET /" + b"x" * 9000])
def test_what_is_no_websocket_is_answered_in_http(processor: WeightProcessor, wrong: bytes) -> None:
    with raw(processor.urls[0]) as sock:
        sock.sendall(wrong)
        head, _, body = everything(sock).partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 426 ", b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
        assert b"a weight processor of Twofold listens here" in body


def test_a_slow_request_is_told_so_in_http() -> None:
    with (
        serving("ws://127.0.0.1:0", ToyService(), handshake=0.2) as processor,
        raw(processor.urls[0]) as slow,
    ):
        slow.sendall(REQUEST[:-4])
        assert everything(slow).startswith(b"HTTP/1.1 408 ")


def test_a_connection_too_many_is_told_so_in_http() -> None:
    with serving("ws://127.0.0.1:0", ToyService(), connections=1) as processor, contextlib.ExitStack() as stack:
        stack.callback(connect(processor.urls[0]).close)
        with raw(processor.urls[0]) as second:
            assert everything(second).startswith(b"HTTP/1.1 503 ")


def test_an_open_websocket_that_says_nothing_is_dropped_in_time() -> None:
    with serving("ws://127.0.0.1:0", ToyService(), handshake=0.2) as processor, upgraded(processor.urls[0]) as sock:
        assert "too slow" in failure(sock)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", b"403"),
        ("http://localhost:PORT", b"403"),
        ("https://chat.example", b"101"),
        ("http://127.0.0.1:PORT", b"101"),
    ],
)
def test_a_page_of_another_site_is_refused_and_told_how_it_would_be_let_in(
    origin: str, status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toy_processor.listen", lambda url, tokens: listen(url, tokens, ["https://chat.example"]))
    with serving("ws://127.0.0.1:0", ToyService()) as processor, raw(processor.urls[0]) as sock:
        origin = origin.replace("PORT", processor.urls[0].rpartition(":")[2])
        sock.sendall(REQUEST[:-2] + f"Origin: {origin}\r\n\r\n".encode())
        answer = sock.recv(4096)
    assert answer[9:12] == status
    assert (f"--origin {origin} would let them".encode() in answer) == (status == b"403")


def test_our_client_says_what_a_web_server_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"ws://127.0.0.1:{server.getsockname()[1]}"
        answers = {
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nno\x1b!!": r"answered HTTP 404: no\?!!",
            b"SSH-2.0-x\r\n": "does not speak Twofold",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"x" * 9000: "does not speak Twofold",
            b"HTTP/1.1 101 No\r\nUpgrade: x\r\n\r\n": "does not speak Twofold",
        }
        for answer, words in answers.items():
            with contextlib.ExitStack() as stack:
                answered_once(server, answer, stack)
                with pytest.raises(Refused, match=words) as caught:
                    connect(url)
                assert str(caught.value).isprintable()


def answered_once(server: socket.socket, answer: bytes, stack: contextlib.ExitStack) -> None:
    """The next connection to `server` gets `answer`, whatever it asks."""

    def serve() -> None:
        with server.accept()[0] as sock:
            sock.recv(65536)
            sock.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    stack.callback(thread.join)


def test_our_client_waits_no_longer_than_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        with pytest.raises(DeadlinePassed, match="did not answer in time"):
            connect(f"ws://127.0.0.1:{server.getsockname()[1]}", deadline=Seconds(0.1))
        assert 0.1 <= time.monotonic() - began < 2


def test_a_tls_client_at_a_wss_port_is_told_that_it_is_at_the_wrong_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    join("wss://127.0.0.1:0")
    with serving("wss://127.0.0.1:0", ToyService()) as processor:
        url = join(processor.urls[0]).replace("wss", "tls")
        with pytest.raises(Refused, match="does not speak Twofold; check the port"):
            connect(url)


@pytest.mark.parametrize("scheme", ["ws", "tcp"])
def test_without_tls_other_hosts_are_neither_listened_to_nor_called(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{scheme}:// is not encrypted"):
        listen(f"{scheme}://0.0.0.0:0", Tokens(1))
    with pytest.raises(ConfigurationError, match=f"{scheme}:// is not encrypted"):
        connect(f"{scheme}://10.0.0.1:1")


def test_several_addresses_are_all_taken_or_none(tmp_path: Path) -> None:
    urls = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0", f"shm://{tmp_path}/s"]
    listeners = listen_at(urls, NO_TOKENS)
    assert [listener.url.partition(":")[0] for listener in listeners] == ["tcp", "ws", "shm"]
    for listener in listeners:
        listener.close()
    with pytest.raises(ConfigurationError, match="not encrypted"):
        listen_at([listeners[0].url, "ws://0.0.0.0:0"], NO_TOKENS)
    listen(listeners[0].url).close()  # it is free again


def test_origins_without_an_address_for_browsers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="--listen has none"):
        listen_at(["tcp://127.0.0.1:0"], NO_TOKENS, ["https://chat.example"])
    with pytest.raises(ConfigurationError, match="is no origin"):
        listen_at(["ws://127.0.0.1:0"], NO_TOKENS, ["chat.example"])
