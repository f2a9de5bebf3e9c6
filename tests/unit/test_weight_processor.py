"""The server as a stranger meets it: raw sockets, garbage, limits, and its end."""

import contextlib
import ctypes
import gc
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_processor import BLOCK, DIGEST, FAIL, Asker, ToyService, connect, serving

from twofold.errors import DeadlinePassed, ModelError, ProcessorLost, Refused, TwofoldError
from twofold.link import listen
from twofold.link.port import native_layout
from twofold.processor.weight import WeightProcessor
from twofold.units import Seconds
from twofold.wire.frame import CALL, CONTROL, HEADER_BYTES, REPLY, Header, check_sum, pack, unpack
from twofold.wire.message import AskTokenizer, Failed, Hello, Message, Ping, Welcome, decode, encode

SOON = Seconds(5.0)
PREFIX = bytes.fromhex(DIGEST)[:16]
IDS = struct.pack("<i", 21)


@pytest.fixture(params=["shm", "tcp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"shm://{tmp_path}/{secrets.token_hex(4)}" if request.param == "shm" else "tcp://127.0.0.1:0"


@pytest.fixture
def processor(url: str) -> Iterator[WeightProcessor]:
    with serving(url, ToyService()) as processor:
        yield processor


def raw(url: str) -> socket.socket:
    scheme, _, place = url.partition("://")
    sock = socket.socket(socket.AF_UNIX if scheme == "shm" else socket.AF_INET)
    sock.settimeout(5)
    sock.connect(place if scheme == "shm" else ("127.0.0.1", int(place.rpartition(":")[2])))
    return sock


def control(message: Message) -> bytes:
    payload = encode(message)
    return pack(Header(CONTROL, length=len(payload)), [payload]) + payload


def hello(url: str) -> bytes:
    return control(Hello(shared_memory=url.startswith("shm")))


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def message_from(sock: socket.socket) -> Message:
    header = unpack(exactly(sock, HEADER_BYTES))
    payload = exactly(sock, header.length)
    check_sum(header, [payload])
    return decode(payload)


def no_more(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may be closed on us already
        sock.shutdown(socket.SHUT_WR)


def last_word(sock: socket.socket) -> Failed | None:
    """The Failed before the end of the link, if any; anything else but an end fails the test."""
    try:
        message = message_from(sock)
    except (EOFError, ConnectionError):
        return None
    with contextlib.suppress(ConnectionError):
        assert sock.recv(1) == b""
    assert isinstance(message, Failed)
    return message


@contextlib.contextmanager
def connected(url: str) -> Iterator[Asker]:
    connection = connect(url)
    try:
        yield connection
    finally:
        connection.close()


def still_serves(connection: Asker) -> bool:
    connection.rows["ids"][0] = 21
    connection.call(0, 1, SOON)
    return bool((connection.rows["carry"][0] == 42).all())


def test_calls_that_wait_for_the_same_segment_run_as_one_batch(url: str) -> None:
    service = ToyService()
    with serving(url, service) as processor, contextlib.ExitStack() as stack:
        first = stack.enter_context(connected(processor.urls[0]))
        others = [stack.enter_context(connected(processor.urls[0])) for _ in range(5)]
        first.rows["ids"][0] = BLOCK
        first.connection.begin(first.rows, 0, 1, SOON)
        assert service.entered.wait(5)
        for number, other in enumerate(others):
            other.rows["ids"][: number + 1] = number + 1
            other.connection.begin(other.rows, 0, number + 1, SOON)
        service.release.set()
        first.connection.finish()
        for number, other in enumerate(others):
            other.connection.finish()
            assert (other.rows["carry"][: number + 1] == 2 * (number + 1)).all()
        assert service.batches == [1, 1 + 2 + 3 + 4 + 5]


def test_a_call_that_fails_in_a_batch_fails_alone(url: str) -> None:
    service = ToyService()
    with serving(url, service) as processor, contextlib.ExitStack() as stack:
        first, good, bad = [stack.enter_context(connected(processor.urls[0])) for _ in range(3)]
        first.rows["ids"][0] = BLOCK
        first.connection.begin(first.rows, 0, 1, SOON)
        assert service.entered.wait(5)
        good.rows["ids"][0], bad.rows["ids"][0] = 21, FAIL
        for connection in (good, bad):
            connection.connection.begin(connection.rows, 0, 1, SOON)
        service.release.set()
        first.connection.finish()
        good.connection.finish()
        assert (good.rows["carry"][0] == 42).all()
        with pytest.raises(ModelError, match="the toy is broken"):
            bad.connection.finish()
        assert still_serves(bad)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(lambda tail: b"2FLD\2\0" + tail)))
def test_random_bytes_are_answered_with_a_failure_and_disturb_nobody(
    processor: WeightProcessor, garbage: bytes
) -> None:
    good = connect(processor.urls[0])
    with raw(processor.urls[0]) as sock:
        sock.sendall(garbage)
        no_more(sock)
        answer = last_word(sock)
        assert answer is None or answer.kind == "FrameError"
        if len(garbage) >= HEADER_BYTES:
            assert answer is not None
    assert still_serves(good)
    good.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 200), st.integers(1, 255), st.booleans())
def test_a_damaged_or_cut_hello_is_never_welcomed(processor: WeightProcessor, at: int, flip: int, cut: bool) -> None:
    frame = bytearray(hello(processor.urls[0]))
    at %= len(frame)
    if cut:
        del frame[at:]
    else:
        frame[at] ^= flip
    with raw(processor.urls[0]) as sock:
        sock.sendall(frame)
        no_more(sock)
        assert (answer := last_word(sock)) is None or answer.kind == "FrameError"
        assert cut or answer is not None or 48 <= at < 56  # a longer length than what follows is a cut frame


BAD_BEFORE_THE_HANDSHAKE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain, text/html\r\n\r\n",
    "length of 2^63": pack(Header(CONTROL, length=2**63)),
    "length over the limit of a request": pack(Header(CONTROL, length=65 * 1024)),
    "a call": pack(Header(CALL, PREFIX, 0, 1, 1, 10**9, 4), [IDS]) + IDS,
    "a reply": pack(Header(REPLY, PREFIX, 0, 1)),
    "a question": control(Ping()),
    "a failure": control(Failed("TwofoldError", "no")),
    "no message": pack(Header(CONTROL, length=3), [b"abc"]) + b"abc",
}


@pytest.mark.parametrize("frame", BAD_BEFORE_THE_HANDSHAKE.values(), ids=BAD_BEFORE_THE_HANDSHAKE)
def test_anything_but_a_hello_first_is_answered_with_a_frame_error(processor: WeightProcessor, frame: bytes) -> None:
    with connected(processor.urls[0]) as good, raw(processor.urls[0]) as sock:
        sock.sendall(frame)
        answer = last_word(sock)
        assert answer is not None
        assert answer.kind == "FrameError"
        assert still_serves(good)


BAD_CALLS = {
    "another model": Header(CALL, bytes(16), 0, 1, 1, 10**9, 4),
    "no such segment": Header(CALL, PREFIX, 2**32 - 1, 1, 1, 10**9, 4),
    "no rows": Header(CALL, PREFIX, 0, 0, 1, 10**9, 0),
    "too many rows": Header(CALL, PREFIX, 0, 2**32 - 1, 1, 10**9, 4),
    "a byte too many": Header(CALL, PREFIX, 0, 1, 1, 10**9, 5),
    "absurd length": Header(CALL, PREFIX, 0, 1, 1, 10**9, 2**63),
    "a reply": Header(REPLY, PREFIX, 0, 1, 1, 0, 4),
}


@pytest.mark.parametrize("header", BAD_CALLS.values(), ids=BAD_CALLS)
def test_a_call_that_cannot_be_is_answered_with_a_frame_error(processor: WeightProcessor, header: Header) -> None:
    with connected(processor.urls[0]) as good, raw(processor.urls[0]) as sock:
        sock.sendall(hello(processor.urls[0]))
        assert isinstance(message_from(sock), Welcome)
        if processor.urls[0].startswith("shm"):
            assert sock.recv(1) == b"D"  # with the memory
        sock.sendall(pack(header, [IDS]) + IDS)
        answer = last_word(sock)
        assert answer is not None
        assert answer.kind == "FrameError"
        assert still_serves(good)


def test_a_call_damaged_on_its_way_is_not_run() -> None:
    service = ToyService()
    with serving("tcp://127.0.0.1:0", service) as processor, raw(processor.urls[0]) as sock:
        sock.sendall(hello(processor.urls[0]))
        message_from(sock)
        sock.sendall(pack(Header(CALL, PREFIX, 0, 1, 1, 10**9, 4), [IDS]) + b"\0\0\0\0")
        answer = last_word(sock)
        assert answer is not None
        assert "damaged CALL" in answer.message
        assert service.calls == 0


def test_a_call_in_shared_memory_that_cannot_be_is_answered_with_a_frame_error(tmp_path: Path) -> None:
    with serving(f"shm://{tmp_path}/s", ToyService()) as processor:
        for segment, rows in ((2**31, 1), (0, 2**31), (1, 33), (0, 0)):
            with connected(processor.urls[0]) as bad, connected(processor.urls[0]) as good:
                with pytest.raises(ProcessorLost):
                    call_unchecked(bad, segment, rows)
                assert still_serves(good)


def call_unchecked(connection: Asker, segment: int, rows: int) -> None:
    """A call without the checks of this side: its header is written over that of a good one before the ring."""
    inner: Any = connection.connection
    port, native = inner._port, native_layout(connection.rows.layout)
    nobody = (ctypes.c_uint32 * 2)()
    mailbox, port._raw.theirs = port._raw.theirs, ctypes.addressof(nobody)
    port.begin(connection.rows, native, 0, 1, 10**9)
    struct.pack_into("<II", port.outward, 24, segment, rows)
    ctypes.c_uint32.from_address(mailbox).value = 1
    os.eventfd_write(inner._bell, 1)
    inner._begun, inner._rows, inner._native = (0, 1, time.monotonic_ns() + 10**10), connection.rows, native
    inner.finish()


def test_who_asks_on_without_taking_the_answers_is_refused_before_they_pile_up() -> None:
    with (
        serving("tcp://127.0.0.1:0", ToyService()) as processor,
        connected(processor.urls[0]) as good,
        raw(processor.urls[0]) as sock,
    ):
        sock.sendall(hello(processor.urls[0]))
        message_from(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # so that each question comes alone
        with pytest.raises(ConnectionError):
            ask_on(sock, good)


def ask_on(sock: socket.socket, good: Asker) -> None:
    for _ in range(200):  # 60 MB of answers
        sock.sendall(control(AskTokenizer()))
        assert still_serves(good)


def test_a_second_hello_and_unasked_answers_are_frame_errors(processor: WeightProcessor) -> None:
    for message in (Hello(), Failed("TwofoldError", "x")):
        with connected(processor.urls[0]) as connection:
            with pytest.raises(TwofoldError, match="is not a question"):
                connection.ask(message, SOON)
            with pytest.raises(ProcessorLost):
                connection.ask(AskTokenizer(), SOON)


def test_a_slow_hello_is_dropped_at_the_end_of_its_time(url: str) -> None:
    with (
        serving(url, ToyService(), handshake=0.2) as processor,
        connected(processor.urls[0]) as good,
        raw(processor.urls[0]) as silent,
        raw(processor.urls[0]) as slow,
    ):
        slow.sendall(hello(processor.urls[0])[:10])
        for sock in (silent, slow):
            answer = last_word(sock)
            assert answer is not None
            assert answer.kind == "DeadlinePassed"
        assert still_serves(good)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Hello(protocol=9), "protocol versions differ: client 9, weight processor 2"),
        (Hello(numerics=9), "numerics versions differ: client 9, weight processor 1"),
        (Hello(digest="ab" * 32), f"client wants {'ab' * 8}, weight processor holds {DIGEST[:16]}"),
    ],
)
def test_a_refused_handshake_names_both_sides(processor: WeightProcessor, said: Hello, words: str) -> None:
    with raw(processor.urls[0]) as sock:
        sock.sendall(control(said))
        answer = last_word(sock)
        assert answer is not None
        assert answer.kind == "Refused"
        assert words in answer.message


def test_shared_memory_that_the_link_has_not_is_refused(processor: WeightProcessor) -> None:
    with raw(processor.urls[0]) as sock:
        sock.sendall(control(Hello(shared_memory=not processor.urls[0].startswith("shm"))))
        answer = last_word(sock)
        assert answer is not None
        assert "shared memory" in answer.message


def test_one_connection_more_than_the_limit_is_refused_and_a_freed_place_is_used(url: str) -> None:
    with serving(url, ToyService(), connections=2) as processor:
        held = [connect(processor.urls[0]) for _ in range(2)]
        with pytest.raises(Refused, match="all 2 connections of the weight processor are taken"):
            connect(processor.urls[0])
        assert all(still_serves(connection) for connection in held)
        for connection in held:
            connection.close()
        connect(processor.urls[0]).close()


def test_stop_leaves_no_thread_and_no_descriptor(url: str) -> None:
    gc.collect()  # what earlier tests left
    threads, files = set(threading.enumerate()), os.listdir("/proc/self/fd")
    service = ToyService()
    with serving(url, service) as processor:
        connections = [connect(processor.urls[0]) for _ in range(3)]
        assert all(still_serves(connection) for connection in connections)
        strangers = [raw(processor.urls[0]) for _ in range(2)]
    assert set(threading.enumerate()) == threads
    for connection in connections:
        with pytest.raises(ProcessorLost, match="went away"):
            connection.call(0, 1, SOON)
    for sock in strangers:
        sock.close()
    del connection, connections, processor
    gc.collect()  # the desk's eventfd goes with the last that could ring it
    assert os.listdir("/proc/self/fd") == files


def test_stop_lets_the_work_in_hand_end_and_starts_no_other(url: str) -> None:
    service = ToyService()
    with serving(url, service) as processor:
        first, second = connect(processor.urls[0]), connect(processor.urls[0])
        first.rows["ids"][0] = BLOCK
        with pytest.raises(DeadlinePassed):
            first.call(0, 1, Seconds(0.02))
        assert service.entered.wait(5)
        lost: list[TwofoldError] = []

        def wait_in_line() -> None:
            with pytest.raises(ProcessorLost) as caught:
                second.call(0, 1, Seconds(30.0))
            lost.append(caught.value)

        thread = threading.Thread(target=wait_in_line)
        thread.start()
        processor.stop()
        thread.join(5)
        assert len(lost) == 1
        assert service.calls == 1


def test_stop_before_serving_ends_it_at_once(url: str) -> None:
    listener = listen(url)
    processor = WeightProcessor(ToyService(), [listener])
    processor.stop()
    processor.serve_forever()
    listen(url).close()  # the address is free again


def test_nothing_of_a_call_reaches_another_connection(processor: WeightProcessor) -> None:
    with connected(processor.urls[0]) as first:
        assert still_serves(first)
    with connected(processor.urls[0]) as second:
        assert not second.rows["carry"].any()
        second.rows["attended"][0] = 0
        second.call(1, 1, SOON)
        assert not second.rows["logits"].any()
