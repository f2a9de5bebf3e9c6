"""The server as a stranger meets it: raw sockets, garbage, batches, and errors."""

import contextlib
import ctypes
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strangers import (
    IDS,
    PREFIX,
    SOON,
    connected,
    control,
    hello,
    last_word,
    message_from,
    no_more,
    raw,
    still_serves,
)
from toy_processor import BLOCK, FAIL, Asker, ToyService, connect, serving

from twofold.errors import ModelError, ProcessorLost, TwofoldError
from twofold.link.port import native_layout
from twofold.processor.weight import WeightProcessor
from twofold.wire.frame import CALL, CONTROL, HEADER_BYTES, REPLY, Header, pack
from twofold.wire.message import AskTokenizer, Failed, Hello, Ping, Welcome


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
