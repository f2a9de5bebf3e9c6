"""`twofold serve` as a child that is asked, looked at, told to end, killed and started again at the same port."""

import http.client
import subprocess
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from fabric.processors import Child
from prometheus_client.parser import text_string_to_metric_families

from traffic.client import Server
from twofold.units import Seconds

GET_SECONDS = 30.0


class ServeProcess(Child):
    """A context manager; `server` once ready, and `loaded`: how long it took from its start until then."""

    server: Server
    loaded: Seconds

    def __init__(self, model: str, *options: str, environment: Mapping[str, str] | None = None) -> None:
        """`options`: more words for `twofold serve`."""
        words = ("-m", "twofold", "serve", model, "--served-model-name", "soaked", *options, "--port")
        super().__init__([*words, "0"], environment=environment)

    def begin(self) -> None:
        """Start, and wait until it is ready; the next time at the same port."""
        start = time.monotonic()
        self.start()
        url = self.first_line().removeprefix("ready ")
        self.loaded = Seconds(time.monotonic() - start)
        port = urlsplit(url).port
        assert port
        self.server = Server("127.0.0.1", port, "soaked")
        self._command[-1] = str(port)

    def metrics(self, key: str = "") -> dict[str, float]:
        """The figures at `/metrics` that have one value; OSError if nobody answers."""
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=GET_SECONDS)
        try:
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {key}"} if key else {})
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        families = text_string_to_metric_families(text)
        return {one.name: one.value for family in families if len(family.samples) == 1 for one in family.samples}

    def ended(self, seconds: float) -> int | None:
        """Its exit status, which it has to have within `seconds`; None if it goes on."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
