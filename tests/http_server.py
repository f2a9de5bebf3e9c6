"""A real server on a real socket, in this process, over a `FakeServing`."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fake_serving import FakeServing

from twofold.server.api_keys import Keys
from twofold.server.app import application
from twofold.server.listen import listening, url_of
from twofold.server.offer import Offer
from twofold.server.process import Loading, Progress, Server, log_requests
from twofold.server.readiness import Readiness
from twofold.units import Seconds

SILENT = logging.getLogger("silent")


class Running:
    """A server under way: `opened` lets its model be ready, `readiness.drain` ends it."""

    def __init__(
        self, path: Path, template: str | None, keys: Mapping[str, str] | None, patience: float, **offer: Any
    ) -> None:
        self.serving, self.readiness = FakeServing(path, template), Readiness()
        self.opened = threading.Event()
        socket = listening("127.0.0.1", 0, keyed=False)
        self.url = url_of(socket)
        app = application(Offer(self.readiness, ("tiny",), **offer), Keys(keys or {}), log_requests(SILENT))
        self.is_ready = threading.Event()
        self.loading = Loading(self._opening, self.readiness, self.is_ready.set)
        self.server = Server(app, self.readiness, self.loading, Seconds(patience))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [socket]}, daemon=True)

    @contextlib.contextmanager
    def _opening(self, progress: Progress) -> Iterator[FakeServing]:
        progress("load", 1, 2)
        self.opened.wait()
        yield self.serving


@contextlib.contextmanager
def running(
    path: Path,
    *,
    template: str | None = None,
    keys: Mapping[str, str] | None = None,
    opened: bool = True,
    patience: float = 5.0,
    **offer: Any,
) -> Iterator[Running]:
    """A server of the checkpoint at `path`, ready unless it is not to be `opened`; ended afterwards."""
    server = Running(path, template, keys, patience, **offer)
    server.loading.start()
    if opened:
        server.opened.set()
        assert server.is_ready.wait(10)
    server.thread.start()
    try:
        yield server
    finally:
        server.opened.set()
        server.server.should_exit = True
        server.thread.join(10)
        server.loading.end()
        assert not server.thread.is_alive()
