"""The way of every request in and out: its id, its key, its line in the log. Pure ASGI, as each token passes here."""

import contextlib
from collections import Counter
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twofold.link.exposure import on_this_host
from twofold.server.api_keys import Keys
from twofold.server.front_page import FILES
from twofold.server.readiness import Readiness
from twofold.server.record import Record, request_id
from twofold.server.refusal import Refusal, error_body

OPEN = frozenset({"/health", "/readyz", *FILES})  # who watches whether a server lives needs no key, nor does the page
Log = Callable[[Record], None]


class Front:
    """Lets a request in, or refuses it; notes what became of it in `counts` and in `log`."""

    def __init__(self, app: ASGIApp, *, keys: Keys, readiness: Readiness, log: Log) -> None:
        self._app, self._keys, self._readiness, self._log = app, keys, readiness, log
        self.counts: Counter[tuple[str, str, int]] = Counter()  # by method, route, status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = Record(scope["method"], scope["path"], request_id(headers.get("x-request-id")))
        record.traceparent = headers.get("traceparent")
        scope.setdefault("state", {})["record"] = record

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                named = MutableHeaders(raw=message["headers"])
                named["x-request-id"] = named["request-id"] = record.id
            await send(message)

        with self._in_hand(scope, record):
            try:
                self._admit(record, headers, scope["path"])
            except Refusal as refusal:
                await refused(refusal, scope)(scope, receive, told)
            else:
                await self._app(scope, receive, told)

    def _admit(self, record: Record, headers: Headers, path: str) -> None:
        if path in OPEN:
            return
        if not self._keys:
            _check_host(headers.get("host", ""))
            return
        owner = self._keys.owner(headers)
        if owner is None:
            raise Refusal(
                401, "the API key is missing or wrong; send Authorization: Bearer KEY", code="invalid_api_key"
            )
        record.owner = owner

    @contextlib.contextmanager
    def _in_hand(self, scope: Scope, record: Record):  # type: ignore[no-untyped-def]
        self._readiness.in_hand += 1
        try:
            yield
        finally:
            self._readiness.in_hand -= 1
            route = getattr(scope.get("route"), "path", None)
            record.route = route or "unknown"
            self.counts[record.method, record.route, record.status] += 1
            self._log(record)


def refused(refusal: Refusal, scope: Scope) -> Response:
    """The response that says `refusal`."""
    record: Record = scope["state"]["record"]
    body = error_body(refusal, scope["path"], record.id)
    return Response(body, refusal.status, headers=refusal.headers, media_type="application/json")


def _check_host(host: str) -> None:
    """Refusal 421 for a name that is not this host's: a page elsewhere may have pointed its name here.

    Without keys only this host is listened on, and a browser on it would let such a page read the answers.
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return
    with contextlib.suppress(ValueError):
        if on_this_host(name):
            return
    raise Refusal(
        421, f"the host {host[:100]!r} is not this one; ask 127.0.0.1, or start the server with keys", code="wrong_host"
    )
