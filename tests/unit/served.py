"""An application over a `FakeServing`, asked in this process: no socket, no server."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from fake_serving import FakeServing

from twofold.server.api_keys import Keys
from twofold.server.app import application
from twofold.server.front import Front
from twofold.server.offer import Offer
from twofold.server.readiness import Readiness
from twofold.server.record import Record
from twofold.units import Seconds

HOST = "http://localhost"
HELLO = [{"role": "user", "content": "hello"}]


class Served:
    """One application and what is behind it; `records` are the lines that its log would have."""

    def __init__(
        self,
        path: Path,
        template: str | None = None,
        *,
        keys: Mapping[str, str] | None = None,
        ping: float = 60.0,
        **offer: Any,
    ) -> None:
        self.serving, self.readiness = FakeServing(path, template), Readiness()
        self.records: list[Record] = []
        offered = Offer(self.readiness, ("tiny", "small"), ping=Seconds(ping), **offer)
        self.app: Front = application(offered, Keys(keys or {}), self.records.append)
        self.readiness.ready(self.serving)

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The answer to one request."""

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
                return await client.request(method, path, **request)

        return asyncio.run(asked())

    def get(self, path: str, **request: Any) -> httpx.Response:
        """The answer to a GET."""
        return self.ask("GET", path, **request)

    def post(self, path: str, body: object, **request: Any) -> httpx.Response:
        """The answer to a body of JSON."""
        return self.ask("POST", path, json=body, **request)


def events(response: httpx.Response) -> list[Any]:
    """The events of a stream: what stands behind `data:`, the end mark as it is."""
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in response.text.split("\n\n") if block]
    lines = [line for block in blocks for line in block.split("\n") if line.startswith("data: ")]
    assert len(lines) == len([block for block in blocks if not block.startswith(":")])
    texts = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]
