"""The engine: sessions over the two memories. Feed tokens, get logits."""

import time
from collections.abc import Sequence

import numpy as np

from twofold.engine.caller import Caller
from twofold.engine.step import step
from twofold.engine.walk import Walk
from twofold.errors import RequestError
from twofold.kernels.arithmetic import F32
from twofold.memory.context import ContextMemory


class Session:
    """One conversation: its number in context memory and the tokens it has seen."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tokens: list[int] = []


class Engine:
    """Walks the layers of one model for sessions in `context`, with `weights` wherever the map says."""

    def __init__(self, weights: Caller, context: ContextMemory) -> None:
        self.weights, self.context = weights, context
        self.manifest = context.manifest
        self.rows = weights.rows
        self.chunk = min(context.rows, self.rows.layout.rows)
        self._walk = Walk(weights, context, self._attend)
        self._context_ns = 0

    @property
    def context_ns(self) -> int:
        """Time that context memory worked."""
        return self._context_ns + self._walk.context_ns

    def open(self) -> Session:
        """A new session."""
        return Session(self.context.open())

    def close(self, session: Session) -> None:
        """Forget a session."""
        self.context.close(session.number)

    def feed(self, session: Session, tokens: Sequence[int], *, chunk: int | None = None, wanted: int = 1) -> F32:
        """The session sees `tokens`; returns logits f32[wanted, vocabulary] of the last `wanted` of them.

        `chunk`: the most rows of one step (any value gives the same bits). The logits are a view that the
        next call overwrites. If a step fails, the session keeps what earlier steps gave it and can go on.
        """
        if not 1 <= wanted <= min(len(tokens), self.rows.layout.head_rows):
            raise RequestError(f"logits of {wanted} rows were asked for; 1 to {self.rows.layout.head_rows} can be had")
        limit = max(wanted, min(chunk or self.chunk, self.chunk))
        done = 0
        while done < len(tokens):
            rest = len(tokens) - done
            count = rest if rest <= limit else min(limit, max(1, rest - wanted))
            part = tokens[done : done + count]
            self._step([(session.number, part)], wanted=wanted if count == rest else 0)
            session.tokens += part
            done += count
        logits: F32 = self.rows["logits"][:wanted]  # type: ignore[assignment]
        return logits

    def decode(self, sessions: Sequence[Session], tokens: Sequence[int]) -> F32:
        """Each session sees one token, all in one step; logits f32[sessions, vocabulary], a view as for `feed`."""
        return self.advance([(session, [token], True) for session, token in zip(sessions, tokens, strict=True)])

    def advance(self, parts: Sequence[tuple[Session, Sequence[int], bool]]) -> F32:
        """One step in which each session sees its tokens; (session, tokens, whether the last one's logits are wanted).

        Returns logits f32[wanted, vocabulary], a view as for `feed`, in the order of the parts. Rows whose logits
        nobody wants come first, so the last token of a part that ends a prompt is a part of its own.
        """
        bodies = [(s.number, tokens[:-1] if wanted else tokens) for s, tokens, wanted in parts]
        ends = [(s.number, tokens[-1:]) for s, tokens, wanted in parts if wanted]
        self._step([(number, tokens) for number, tokens in bodies if tokens] + ends, wanted=len(ends))
        for session, tokens, _ in parts:
            session.tokens += tokens
        logits: F32 = self.rows["logits"][: len(ends)]  # type: ignore[assignment]
        return logits

    def rewind(self, session: Session, length: int) -> None:
        """The session forgets all but its first `length` tokens."""
        self.context.truncate(session.number, length)
        del session.tokens[length:]

    def _step(self, parts: Sequence[tuple[int, Sequence[int]]], wanted: int) -> None:
        places = [(session, len(tokens)) for session, tokens in parts]
        count = sum(length for _, length in places)
        self.context.place(places)
        self.rows["ids"][:count, 0] = np.concatenate([np.asarray(tokens, np.int32) for _, tokens in parts])
        first = self._walk(count)
        step(self.weights, self._attend, self.rows, len(self.manifest.layers), count, wanted, first=first)
        self.context.advance(places)

    def _attend(self, layer: int, count: int) -> None:
        start = time.perf_counter_ns()
        self.context.attend(layer, self.rows, count)
        self._context_ns += time.perf_counter_ns() - start
