"""What is noted of one request: who, what, how long. No text of it."""

import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from twofold.engine.request import Usage

_ID = re.compile(r"[\x21-\x7e]{1,128}")
GONE = 499  # in the log alone: the client went away before its answer was complete


class Record:
    """One request on its way through; `clock` in seconds."""

    def __init__(self, method: str, route: str, request_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.method, self.route, self.id = method, route, request_id
        self.owner = ""
        self.status = 0
        self.gone = False
        self.usage = Usage()  # of all answers together
        self.answers: list[Usage] = []
        self.traceparent: str | None = None  # of the client's trace, as W3C Trace Context writes it
        self._clock, self.started = clock, clock()
        self._wall_ns = time.time_ns()  # at `started`
        self._first: float | None = None

    def first_piece(self) -> None:
        """A piece of the answer is there; the first counts."""
        if self._first is None:
            self._first = self._clock() - self.started

    @property
    def ended(self) -> float:
        """Now, by its clock."""
        return self._clock()

    def wall_ns(self, moment: float) -> int:
        """The Unix time, in nanoseconds, of a moment of its clock."""
        return self._wall_ns + round(1e9 * (moment - self.started))

    def add(self, usages: Iterable[Usage]) -> None:
        """What answers took."""
        for usage in usages:
            self.answers.append(usage)
            self.usage.prompt_tokens += usage.prompt_tokens
            self.usage.cached_tokens += usage.cached_tokens
            self.usage.generated_tokens += usage.generated_tokens

    def line(self) -> dict[str, Any]:
        """The fields of its line in the log."""
        fields: dict[str, Any] = {
            "id": self.id,
            "method": self.method,
            "route": self.route,
            "status": GONE if self.gone else self.status,
            "seconds": round(self._clock() - self.started, 4),
        }
        if self.owner:
            fields["owner"] = self.owner
        if self._first is not None:
            fields["first_seconds"] = round(self._first, 4)
        if self.usage.prompt_tokens:
            fields["prompt_tokens"] = self.usage.prompt_tokens
            fields["cached_tokens"] = self.usage.cached_tokens
            fields["generated_tokens"] = self.usage.generated_tokens
        return fields


def request_id(given: str | None) -> str:
    """The id that a client gave its request if it is one that a log can hold, else a new one."""
    return given if given and _ID.fullmatch(given) else f"req-{uuid.uuid4().hex}"
