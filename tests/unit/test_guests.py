"""Who may come to a weight processor, how many, how slowly, and how they go: one by one, and at its end."""

import contextlib
import gc
import os
import socket
import threading

import pytest
from strangers import (
    PREFIX,
    SOON,
    connected,
    control,
    hello,
    last_word,
    message_from,
    raw,
    still_serves,
)
from toy_processor import BLOCK, DIGEST, ToyService, connect, serving

from twofold.errors import DeadlinePassed, DeviceError, ProcessorLost, Refused, TwofoldError
from twofold.link import listen, tcp
from twofold.processor.weight import STRANGERS, WeightProcessor
from twofold.units import Seconds
from twofold.wire.frame import REPLY, Header, pack
from twofold.wire.message import Hello


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
        (Hello(protocol=9), "protocol versions differ: client 9, weight processor 3"),
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


def test_a_reply_that_is_sent_to_a_server_is_not_worked_on() -> None:
    service = ToyService()
    with serving("tcp://127.0.0.1:0", service) as processor, raw(processor.urls[0]) as sock:
        sock.sendall(hello(processor.urls[0]))
        message_from(sock)
        logits = bytes(4 * 4096)
        sock.sendall(pack(Header(REPLY, PREFIX, 1, 1, 1, 0, len(logits)), [logits]) + logits)
        answer = last_word(sock)
        assert answer is not None
        assert "came to the side that sends them" in answer.message
        assert service.calls == 0


def test_strangers_who_say_nothing_do_not_keep_others_out(url: str) -> None:
    with serving(url, ToyService(), connections=1024) as processor, contextlib.ExitStack() as stack:
        good = stack.enter_context(connected(processor.urls[0]))
        silent = []
        for _ in range(STRANGERS + 20):
            silent.append(stack.enter_context(raw(processor.urls[0])))
            assert still_serves(good)  # so that it is accepted before the next comes
        with connected(processor.urls[0]) as newcomer:
            assert still_serves(newcomer)
        answer = last_word(silent[0])
        assert answer is not None
        assert "before this client said Hello" in answer.message


def test_a_processor_that_is_out_of_files_serves_on_and_lets_others_in_later(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []

    def full(sock: socket.socket) -> None:
        refused.append(sock)
        raise DeviceError("too many open files to accept a connection; raise the limit (ulimit -n)")

    with serving("tcp://127.0.0.1:0", ToyService()) as processor, connected(processor.urls[0]) as good:
        with monkeypatch.context() as patch:
            patch.setattr(tcp, "accepted", full)
            with raw(processor.urls[0]):
                while not refused:
                    assert still_serves(good)
        connect(processor.urls[0]).close()
        assert still_serves(good)


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
        service.release.set()
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
