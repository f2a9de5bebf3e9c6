"""The process around a server: loading in a thread, lines of the log."""

import contextlib
import json
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_serving import FakeServing
from http_server import running
from served import HELLO

from twofold.errors import ModelError
from twofold.server.process import Loading, LogLine, Progress, log_requests
from twofold.server.readiness import Readiness
from twofold.server.record import Record

PATIENCE = 10.0


def test_a_model_is_opened_held_and_closed_by_one_thread(tiny_path: Path) -> None:
    seen: list[str] = []
    is_ready = threading.Event()
    serving = FakeServing(tiny_path)

    @contextlib.contextmanager
    def opening(progress: Progress) -> Iterator[FakeServing]:
        seen.append(threading.current_thread().name)
        progress("load", 1, 2)
        yield serving
        seen.append(threading.current_thread().name)

    readiness = Readiness()
    loading = Loading(opening, readiness, is_ready.set)
    loading.start()
    assert is_ready.wait(PATIENCE)
    assert readiness.serving is serving
    loading.end()
    assert seen == ["model", "model"]
    assert not loading.is_alive()


def test_loading_that_is_let_go_ends_at_its_next_sign_of_progress() -> None:
    reached, going_on = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def opening(progress: Progress) -> Iterator[Any]:
        reached.set()
        going_on.wait(PATIENCE)
        progress("load", 1, 2)
        pytest.fail("it went on")
        yield

    loading = Loading(opening, Readiness(), lambda: None)
    loading.start()
    assert reached.wait(PATIENCE)
    loading.let_go()
    going_on.set()
    loading.join(PATIENCE)
    assert loading.error is None
    assert not loading.is_alive()


def test_what_a_model_cannot_be_opened_for_is_kept() -> None:
    @contextlib.contextmanager
    def opening(progress: Progress) -> Iterator[Any]:
        raise ModelError("it is damaged")
        yield

    loading = Loading(opening, Readiness(), lambda: None)
    loading.start()
    loading.join(PATIENCE)
    assert isinstance(loading.error, ModelError)


def test_a_server_that_was_told_to_end_refuses_what_is_new_and_ends_when_nothing_is_in_hand(tiny_path: Path) -> None:
    with running(tiny_path) as server, httpx.Client(base_url=server.url) as client:
        server.readiness.in_hand += 1  # a request that takes long
        server.server.handle_exit(signal.SIGTERM, None)
        answer = client.post("/v1/chat/completions", json={"messages": HELLO})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
        assert server.thread.is_alive()
        server.readiness.in_hand -= 1
        server.thread.join(PATIENCE)
        assert not server.thread.is_alive()


def test_a_second_signal_ends_it_whatever_is_in_hand(tiny_path: Path) -> None:
    with running(tiny_path, patience=1e9) as server:
        server.readiness.in_hand += 1
        for _ in range(2):
            server.server.handle_exit(signal.SIGINT, None)
        server.thread.join(PATIENCE)
        assert not server.thread.is_alive()


def log_record(**extra: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": "request", "levelname": "INFO", "created": 0.0, **extra})


def test_a_line_of_the_log_has_the_fields_of_a_request() -> None:
    line = LogLine(json=False).format(log_record(fields={"id": "a", "status": 200}))
    assert line == "1970-01-01T00:00:00Z INFO request id=a status=200"
    written = json.loads(LogLine(json=True).format(log_record(fields={"id": "a", "status": 200})))
    assert written == {"time": "1970-01-01T00:00:00Z", "level": "INFO", "message": "request", "id": "a", "status": 200}


def test_an_error_is_one_json_object_too() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        failed = log_record(exc_info=(type(error), error, error.__traceback__))
    assert "ValueError" in json.loads(LogLine(json=True).format(failed))["error"]


def test_requests_are_noted_with_their_record(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([1.0, 3.5])
    record = Record("GET", "/health", "a", lambda: next(times))
    record.status = 200
    with caplog.at_level(logging.INFO, "a test"):
        log_requests(logging.getLogger("a test"))(record)
    (noted,) = caplog.records
    assert vars(noted)["fields"] == {"id": "a", "method": "GET", "route": "/health", "status": 200, "seconds": 2.5}
