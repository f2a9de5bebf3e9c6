"""One server process: the port answers at once, a thread loads the model, signals end it.

start ──▶ loading ──▶ ready ──signal──▶ draining ──nothing in hand, or patience over──▶ end
             └──────────signal or error──────────────────second signal─────────────────▲
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType

import msgspec
import uvicorn
from starlette.types import ASGIApp

from twofold.server.memories import PATH as MEMORIES
from twofold.server.readiness import Readiness
from twofold.server.record import Record
from twofold.server.served import Served
from twofold.units import Seconds

GOODBYE_SECONDS = 1  # for connections to close once nothing is in hand
IDLE_SECONDS = 30  # that a connection may have nothing to ask

Progress = Callable[[str, int, int], None]
Opening = Callable[[Progress], AbstractContextManager[Served]]


class Abandoned(BaseException):
    """Loading is over because the process is to end; nothing catches it but the thread that loads."""


class Loading(threading.Thread):
    """Opens the model, holds it open until `end`, and closes it, all in one thread."""

    def __init__(self, opening: Opening, readiness: Readiness, ready: Callable[[], None]) -> None:
        super().__init__(name="model", daemon=True)
        self.error: Exception | None = None  # what it ended with
        self._opening, self._readiness, self._ready = opening, readiness, ready
        self._end = threading.Event()

    def run(self) -> None:
        """The thread."""
        with contextlib.suppress(Abandoned):
            try:
                with self._opening(self._progress) as serving:
                    self._readiness.ready(serving)
                    self._ready()
                    self._end.wait()
            except Exception as error:  # noqa: BLE001  (the main thread raises it)
                self.error = error

    def let_go(self) -> None:
        """Close the model, which cancels what is in hand; in the middle of loading, at the next sign of progress."""
        self._end.set()

    def end(self) -> None:
        """Wait until it is closed; not for loading to get to a sign of progress."""
        self.let_go()
        self.join(GOODBYE_SECONDS if self._readiness.loading else None)

    def _progress(self, stage: str, done: int, total: int) -> None:
        if self._end.is_set():
            raise Abandoned
        self._readiness.progress(stage, done, total)


class Server(uvicorn.Server):
    """uvicorn's, ended in two steps: the first signal drains, a second ends at once."""

    def __init__(
        self,
        app: ASGIApp,
        readiness: Readiness,
        loading: Loading,
        patience: Seconds,
        draining: Callable[[int], None] = lambda in_hand: None,
    ) -> None:
        """`draining` is told how many requests are in hand when the first signal comes."""
        super().__init__(
            uvicorn.Config(
                app, loop="uvloop", http="httptools", ws="none", lifespan="off", interface="asgi3",
                log_config=None, access_log=False, server_header=False, proxy_headers=False,
                timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=GOODBYE_SECONDS,
            )
        )  # fmt: skip
        self._readiness, self._loading, self._patience = readiness, loading, patience
        self._draining = draining

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal arrived."""
        self.should_exit = self._readiness.draining
        self._readiness.drain(time.monotonic())
        if not self.should_exit and self._readiness.in_hand:
            self._draining(self._readiness.in_hand)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        over = self._readiness.drained(time.monotonic(), self._patience)
        return await super().on_tick(counter) or over or not self._loading.is_alive()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: what is in hand is cancelled, and so is answered within a step."""
        self._loading.let_go()
        await super().shutdown(sockets)


def serve(server: Server, listening: socket.socket, loading: Loading) -> None:
    """Answer until a signal, or until the model cannot be opened; raises what it could not be opened for."""
    loading.start()
    try:
        server.run(sockets=[listening])
    finally:
        loading.end()
    if loading.error is not None:
        raise loading.error


class LogLine(logging.Formatter):
    """A line a message, or a JSON object; fields of a request are in it, its text never is."""

    converter = staticmethod(time.gmtime)

    def __init__(self, *, json: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self._json = json

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields: dict[str, object] = getattr(record, "fields", {})
        if not self._json:
            more = " ".join(f"{name}={value}" for name, value in fields.items())
            return f"{super().format(record)} {more}".rstrip()
        line = {
            "time": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line | fields).decode()


def log_requests(area: logging.Logger) -> Callable[[Record], None]:
    """What notes every request in `area`; the page's look at the memories, once a second, only for debugging."""

    def log(record: Record) -> None:
        level = logging.DEBUG if record.route == MEMORIES and record.status == 200 else logging.INFO
        area.log(level, "request", extra={"fields": record.line()})

    return log
