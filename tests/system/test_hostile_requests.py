"""Strangers on the socket: whatever they send, they get a 4xx, and the server answers the next."""

import contextlib
import http.client
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_serving import TEXT
from http_server import Running, running
from traffic.hostility import HELLO, JSON, KINDS, PATHS, assault, damaged

from twofold.engine.request import Request
from twofold.server.shelves import Shelves
from twofold.store.contexts import Contexts, Quota
from twofold.units import MIB

BODIES, CASES = 10_000, 20


@pytest.fixture(scope="module")
def server(roomy_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    shelves = Shelves(lambda owner: Contexts(folder, Quota(MIB)))
    folder = tmp_path_factory.mktemp("kept") / "contexts"
    with running(roomy_path, patience=1.0, shelves=shelves) as server:
        yield server


def connected(server: Running) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection(*_place(server), timeout=20))


def sent(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, bytes]:
    connection.request("POST", path, body, JSON)
    answer = connection.getresponse()
    return answer.status, answer.read()


def post(server: Running, path: str, body: bytes) -> tuple[int, bytes]:
    with connected(server) as connection:
        return sent(connection, path, body)


def alive(server: Running) -> None:
    status, text = post(server, PATHS[0], json.dumps(HELLO).encode())
    assert (status, json.loads(text)["choices"][0]["message"]["content"]) == (200, TEXT)


def test_ten_thousand_damaged_bodies_are_each_answered(server: Running) -> None:
    choice = random.Random(0)
    seen = set()
    with connected(server) as connection:
        for number in range(BODIES):
            status, text = sent(connection, PATHS[number % len(PATHS)], damaged(choice))
            seen.add(status)
            assert status in (200, 400), text
            assert status == 200 or json.loads(text)["error"]["message"]
    assert 400 in seen
    alive(server)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"schemas"}))
def test_what_the_bench_sends_gets_nothing_but_4xx(server: Running, kind: str) -> None:
    seen = assault(kind, "{}:{}".format(*_place(server)), seed=1, seconds=20.0, cases=CASES)
    assert sum(seen.values()) >= 1
    assert all(status == "hung up" or 400 <= int(status) < 500 for status in seen), seen
    alive(server)


def test_while_a_constraint_is_prepared_others_are_answered(server: Running) -> None:
    began, others = threading.Event(), threading.Event()

    def slow(request: Request) -> None:
        if request.constraint:
            began.set()
            assert others.wait(10)

    server.serving.refusing = slow
    form = json.dumps({**HELLO, "response_format": {"type": "json_object"}}).encode()
    with ThreadPoolExecutor(1) as client:
        constrained = client.submit(post, server, PATHS[0], form)
        assert began.wait(10)
        alive(server)
        others.set()
        assert constrained.result()[0] == 200
    server.serving.refusing = lambda request: None


def test_a_body_of_100_mb_is_refused_before_it_was_read(server: Running) -> None:
    with socket.create_connection(_place(server)) as stranger:
        head = f"POST {PATHS[0]} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        stranger.sendall(f"{head}Content-Length: {100 << 20}\r\n\r\n".encode())
        assert b"413" in stranger.recv(1000).split(b"\r\n")[0]
    alive(server)


def test_a_body_without_a_length_is_refused_when_it_is_too_long(server: Running) -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100):
            yield b" " * (1 << 20)
            taken += 1

    headers = {**JSON, "transfer-encoding": "chunked"}
    with connected(server) as connection, contextlib.suppress(OSError):  # it hangs up while we send
        connection.request("POST", PATHS[0], pieces(), headers, encode_chunked=True)
        assert connection.getresponse().status == 413
    assert taken < 100
    alive(server)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"messages":'])
def test_a_body_a_million_deep_is_refused(server: Running, opening: bytes) -> None:
    status, text = post(server, PATHS[0], b'{"messages": ' + opening * 1_000_000)
    assert status == 400
    assert b"deep" in text or b"not JSON" in text
    alive(server)


def test_a_prompt_of_a_million_tokens_is_refused(server: Running) -> None:
    for prompt in ([5] * 1_000_000, "hello " * 1_000_000):
        status, text = post(server, PATHS[1], json.dumps({"prompt": prompt}).encode())
        told = (status, json.loads(text)["error"]["code"])
        assert told in {(400, "context_length_exceeded"), (413, "body_too_large")}
    alive(server)


@pytest.mark.parametrize(
    "sent_first", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100]
)
def test_what_is_no_http_is_hung_up_on(server: Running, sent_first: bytes) -> None:
    with socket.create_connection(_place(server)) as stranger:
        stranger.sendall(sent_first)
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(10)
        answer = stranger.recv(1000)
        assert not answer or b" 400 " in answer.split(b"\r\n")[0] + b" "
    alive(server)


def test_slow_strangers_slow_nobody(server: Running) -> None:
    slow = [socket.create_connection(_place(server)) for _ in range(50)]
    head = (
        f"POST {PATHS[0]} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n"
    )
    for number, stranger in enumerate(slow):
        stranger.sendall(head.encode()[: 20 + number * 5])
    start = time.monotonic()
    alive(server)
    assert time.monotonic() - start < 2.0
    for stranger in slow:
        stranger.close()


def test_schemathesis_finds_nothing_in_the_document_that_is_served(server: Running, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--url", server.url)
    bounds = ("--max-examples", "8", "--seed", "1", "--no-color", "--generation-database", "none")
    done = subprocess.run([*command, *bounds], capture_output=True, text=True, timeout=110, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    alive(server)


def _place(server: Running) -> tuple[str, int]:
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)
