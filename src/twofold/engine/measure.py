"""Measuring: what this machine can do at most, and what share of it loading, decoding and prefilling reach.

A step reads every weight once and multiplies once a weight and row, so its time is at least the larger of bytes
over read bandwidth and multiplications over the int8 rate. A figure is the median of its rounds; every round is
kept, so that a reader sees the spread.
"""

import statistics
import time
from collections.abc import Callable

import msgspec
import numpy as np

from twofold.engine.engine import Engine
from twofold.kernels.native import Native
from twofold.model.anatomy import Anatomy

READ_BYTES = 256 << 20  # larger than the caches
MULTIPLY_SECONDS = 0.005  # long enough that waking the threads does not show
Sample = Callable[[], float]


class Figure(msgspec.Struct):
    """One measured figure: the median of `rounds`, in `unit`."""

    what: str
    unit: str
    median: float
    rounds: list[float]
    limit: str | None = None  # what binds it
    share_of_limit: float | None = None


class Limits(msgspec.Struct):
    """What this machine can do with these threads."""

    read: Figure  # bytes_per_second
    multiply: Figure  # multiplications_per_second

    def rate(self, items: int, read_bytes: float, multiplications: float) -> tuple[str, float]:
        """(which limit binds, items a second it allows) for a step that reads and multiplies so much."""
        reading, multiplying = read_bytes / self.read.median, multiplications / self.multiply.median
        return ("read bandwidth", items / reading) if reading > multiplying else ("int8 rate", items / multiplying)


def repeated(what: str, unit: str, sample: Sample, rounds: int) -> Figure:
    """`rounds` samples after one that is not counted."""
    sample()
    values = [sample() for _ in range(rounds)]
    return Figure(what, unit, statistics.median(values), values)


def of_limit(figure: Figure, limit: tuple[str, float]) -> Figure:
    """The figure with its share of what the limit allows."""
    figure.limit, figure.share_of_limit = limit[0], figure.median / limit[1]
    return figure


def limits(backend: Native, rounds: int) -> Limits:
    """Read bandwidth and int8 rate of all threads of `backend` together."""
    data = np.ones(READ_BYTES, np.uint8)
    address, functions = data.ctypes.data, backend.functions

    def read() -> float:
        start = time.perf_counter()
        functions.read(backend.pool, backend.level, address, READ_BYTES)
        return READ_BYTES / (time.perf_counter() - start)

    def multiplied(amount: int) -> tuple[int, float]:
        start = time.perf_counter()
        done = int(functions.multiply(backend.pool, backend.level, amount)) * backend.threads
        return done, time.perf_counter() - start

    amount = 1000
    while multiplied(amount)[1] < MULTIPLY_SECONDS:
        amount *= 2

    def multiply() -> float:
        done, seconds = multiplied(amount)
        return done / seconds

    return Limits(
        repeated("read bandwidth", "bytes_per_second", read, rounds),
        repeated("int8 rate", "multiplications_per_second", multiply, rounds),
    )


def decode(
    engine: Engine, model: Anatomy, bounds: Limits, *, streams: int, context: int, tokens: int, rounds: int
) -> Figure:
    """Tokens a second of `streams` sessions that have seen `context` positions and decode `tokens` together.

    Each session goes on with its likeliest token, so choosing it is part of the time.
    """
    prompt = some_tokens(context, model.vocabulary)

    def sample() -> float:
        sessions = [engine.open() for _ in range(streams)]
        for session in sessions:
            engine.feed(session, prompt)
        chosen = some_tokens(streams, model.vocabulary, 1)
        start = time.perf_counter()
        for _ in range(tokens):
            chosen = [int(logits.argmax()) for logits in engine.decode(sessions, chosen)]
        seconds = time.perf_counter() - start
        for session in sessions:
            engine.close(session)
        return streams * tokens / seconds

    totals = model.totals
    seen = streams * (context + tokens / 2) * totals.context_bytes_per_token
    bound = bounds.rate(streams, totals.read_bytes_per_token + seen, streams * totals.multiplications_per_token)
    what = f"decode, {streams} stream{'' if streams == 1 else 's'} at {context} positions"
    return of_limit(repeated(what, "tokens_per_second", sample, rounds), bound)


def prefill(engine: Engine, model: Anatomy, bounds: Limits, *, prompt: int, rounds: int) -> Figure:
    """Prompt tokens a second until the logits of the last are there; another prompt each time."""
    seeds = iter(range(1 << 30))

    def sample() -> float:
        tokens = some_tokens(prompt, model.vocabulary, next(seeds))
        session = engine.open()
        start = time.perf_counter()
        engine.feed(session, tokens)
        seconds = time.perf_counter() - start
        engine.close(session)
        return prompt / seconds

    last = model.segments[-1].multiplications  # for the last token only
    multiplications = prompt * (model.totals.multiplications_per_token - last) + last
    bound = bounds.rate(prompt, model.totals.read_bytes_per_token, multiplications)
    return of_limit(repeated(f"prefill of {prompt}", "tokens_per_second", sample, rounds), bound)


def load(loaded: Callable[[], None], rounds: int) -> Figure:
    """Seconds that `loaded` takes: opening a checkpoint and packing its weights."""

    def sample() -> float:
        start = time.perf_counter()
        loaded()
        return time.perf_counter() - start

    return repeated("load", "seconds", sample, rounds)


def some_tokens(count: int, vocabulary: int, seed: int = 0) -> list[int]:
    """Token ids that are the same everywhere; speed does not depend on them."""
    ids: list[int] = np.random.default_rng(seed).integers(0, vocabulary, count).tolist()
    return ids
