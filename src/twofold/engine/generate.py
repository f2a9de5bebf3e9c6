"""Generating text: choose, feed, repeat; stop at an end token, a stop string, the constraint's end, or the limit."""

import hashlib
import time
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from twofold.engine.constraint import Constraint
from twofold.engine.engine import Engine, Session
from twofold.engine.limits import Limits
from twofold.engine.request import Chosen, Request
from twofold.engine.sampler import Sampler
from twofold.engine.sampling import Sampling
from twofold.engine.telling import Telling
from twofold.errors import InternalError, RequestError
from twofold.kernels.arithmetic import F32
from twofold.model.tokenizer import Tokenizer


class Timings(msgspec.Struct):
    """Where the time went, in seconds. `link` is what calls took beyond the work of weight memory.

    With several lanes both memories work at once, so the parts may add up to more than the whole.
    """

    prompt_tokens: int = 0
    generated_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    weights_seconds: float = 0.0
    context_seconds: float = 0.0
    link_seconds: float = 0.0
    sampling_seconds: float = 0.0

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens a second."""
        return self.prompt_tokens / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_rate(self) -> float:
        """Tokens a second after the first, which the prefill gives."""
        return (self.generated_tokens - 1) / self.decode_seconds if self.decode_seconds else 0.0


class Generation:
    """One answer: iterate for its text as it comes; afterwards the attributes tell the rest.

    `chosen` are all tokens sampled, an end token included; `text` has neither end token nor stop string.
    `logits_digest` is the SHA-256 over all float32 logits (little endian) of every sampled token, in order.
    """

    def __init__(
        self,
        engine: Engine,
        session: Session,
        tokenizer: Tokenizer,
        sampling: Sampling,
        limits: Limits,
        *,
        logprobs: int | None = None,
        constraint: Constraint | None = None,
        hashed: bool = True,
    ) -> None:
        """`hashed`: make the digest of the logits. Without it, those that decide nothing need not cross a network."""
        self.engine, self.session, self.tokenizer = engine, session, tokenizer
        self.sampling, self.limits, self.logprobs, self.constraint = sampling, limits, logprobs, constraint
        self.chosen: list[Chosen] = []
        self.text = ""
        self.finish_reason: str | None = None
        self.timings = Timings()
        self._interrupted = False
        self._hash = hashlib.sha256() if hashed else None
        self._spent = (engine.weights.spent.weights_ns, engine.context_ns, engine.weights.spent.link_ns)

    @property
    def logits_digest(self) -> str:
        """SHA-256, hexadecimal, of the logits so far; InternalError if they were not to be hashed."""
        if self._hash is None:
            raise InternalError("the logits of this answer were not hashed")
        return self._hash.hexdigest()

    @property
    def token_ids(self) -> list[int]:
        """The tokens of `chosen`."""
        return [chosen.token for chosen in self.chosen]

    def interrupt(self) -> None:
        """End the answer after the token in hand; also from a signal handler. The session can go on."""
        self._interrupted = True

    def run(self, prompt: Sequence[int]) -> Iterator[str]:
        """Feed `prompt`, then yield text as it is known; raises RequestError if the prompt is empty or too long."""
        if not prompt:
            raise RequestError("the prompt is empty; give some text")
        room = min(self.engine.manifest.context_length, self.engine.context.positions) - len(self.session.tokens)
        if len(prompt) >= room:
            raise RequestError(
                f"the prompt has {len(prompt)} tokens, but only {max(room - 1, 0)} fit: {self._context()}"
            )
        limit = min(self.limits.max_tokens, room - len(prompt))
        sampler = Sampler(self._request(prompt), self.tokenizer, self.engine.manifest.vocabulary)
        start = time.perf_counter()
        self.timings.prompt_tokens = len(prompt)
        try:
            logits = self.engine.feed(self.session, prompt, largest=self._largest(sampler))
            self.timings.prefill_seconds = time.perf_counter() - start
            yield from self._decode(logits, sampler, limit)
        finally:
            self._account(start)

    def _largest(self, sampler: Sampler) -> int | None:
        """How many of the largest logits are needed for the next token; None for all."""
        return sampler.largest if self._hash is None else None

    def _request(self, prompt: Sequence[int]) -> Request:
        """What is asked: penalties count all that the session has seen."""
        return Request(
            prompt=(*self.session.tokens, *prompt),
            sampling=self.sampling,
            limits=self.limits,
            logprobs=self.logprobs,
            constraint=self.constraint,
        )

    def _context(self) -> str:
        """What bounds the context, and what to do about it."""
        model, memory = self.engine.manifest.context_length, self.engine.context.positions
        seen = f", {len(self.session.tokens)} of them taken" if self.session.tokens else ""
        if memory < model:
            return f"context memory has {memory} positions{seen}; shorten it or raise --context (the model has {model})"
        return f"the model's context has {model} positions{seen}; shorten it"

    def _decode(self, logits: F32, sampler: Sampler, limit: int) -> Iterator[str]:
        telling = Telling(self.limits, self.tokenizer, limit)
        while True:
            chosen = self._choose(sampler, logits[0])
            piece = telling.push(chosen, complete=sampler.finished, interrupted=self._interrupted)
            if piece is not None:
                self.text += piece.text
                self.finish_reason = piece.finish
                if piece.text:
                    yield piece.text
            if self.finish_reason is not None:
                return
            logits = self.engine.feed(self.session, [chosen.token], largest=self._largest(sampler))

    def _choose(self, sampler: Sampler, logits: F32) -> Chosen:
        start = time.perf_counter()
        if self._hash is not None:
            self._hash.update(np.ascontiguousarray(logits, "<f4").data)
        chosen = sampler.choose(logits, len(self.session.tokens))
        self.chosen.append(chosen)
        self.timings.sampling_seconds += time.perf_counter() - start
        return chosen

    def _account(self, start: float) -> None:
        timings = self.timings
        timings.generated_tokens = len(self.chosen)
        timings.decode_seconds = time.perf_counter() - start - timings.prefill_seconds
        weights, context, link = self._spent
        timings.weights_seconds = (self.engine.weights.spent.weights_ns - weights) / 1e9
        timings.context_seconds = (self.engine.context_ns - context) / 1e9
        timings.link_seconds = (self.engine.weights.spent.link_ns - link) / 1e9
