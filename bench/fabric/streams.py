"""A context process under test: streams of greedy requests, one after the other, and a line of JSON for every token.

    cd bench; python -m fabric.streams WEIGHTS STREAMS TOKENS

Every stream is a thread with an engine of its own. Request n of stream s is prompt (s + n) modulo PROMPTS, so whoever
reads knows which tokens
have to come. When standard input ends, every stream finishes its request and the program ends.

    {"stream": 0, "request": 3, "at": 1234.5, "token": 17}
    {"stream": 0, "request": 3, "at": 1234.6, "error": "Unreachable: ..."}
"""

import sys
import threading
import time
from collections.abc import Iterator

import msgspec
import numpy as np

from twofold.config import Settings
from twofold.engine.assemble import open_engine
from twofold.engine.engine import Engine
from twofold.errors import TwofoldError
from twofold.store.progress import silent

PROMPTS = 8
PROMPT_TOKENS = 12
POSITIONS = 512  # of context memory
LANES = 2  # of every prompt: an engine that finds out how many pay connects more the longer it lives


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: a token, or the error that ended a request."""

    stream: int
    request: int
    at: float  # seconds of the monotonic clock, the same in every process of a machine
    token: int | None = None
    error: str | None = None


def prompt_of(stream: int, request: int) -> int:
    """Which prompt a request is."""
    return (stream + request) % PROMPTS


def generate(engine: Engine, prompt: int, count: int) -> Iterator[int]:
    """The first `count` tokens, greedily, after prompt number `prompt`; the session is closed whatever happens."""
    vocabulary = engine.manifest.vocabulary
    fed = np.random.default_rng(prompt).integers(0, vocabulary, PROMPT_TOKENS).tolist()
    session = engine.open()
    try:
        for _ in range(count):
            fed = [int(engine.feed(session, fed)[0].argmax())]
            yield fed[0]
    finally:
        engine.close(session)


def expected(model: str, count: int) -> list[list[int]]:
    """The tokens of every prompt, computed in this process."""
    with open_engine(model, Settings(context=POSITIONS), split=False, progress=silent) as ready:
        return [list(generate(ready.engine, prompt, count)) for prompt in range(PROMPTS)]


class Streams:
    """All streams, writing to one output."""

    def __init__(self, weights: str, tokens: int) -> None:
        self._settings = Settings(weights=weights, threads=1, context=POSITIONS)
        self._tokens = tokens
        self._output = threading.Lock()
        self.ending = threading.Event()

    def run(self, stream: int) -> None:
        """One stream, until `ending`."""
        with open_engine(None, self._settings, split=False, progress=silent) as ready:
            engine = Engine(ready.engine.weights, ready.engine.context, lanes=LANES)
            request = 0
            while not self.ending.is_set():
                self._request(engine, stream, request)
                request += 1

    def _request(self, engine: Engine, stream: int, request: int) -> None:
        try:
            for token in generate(engine, prompt_of(stream, request), self._tokens):
                self._tell(Told(stream, request, time.monotonic(), token))
        except TwofoldError as error:
            self._tell(Told(stream, request, time.monotonic(), error=f"{type(error).__name__}: {error}"))
            self.ending.wait(0.1)  # not an error a microsecond

    def _tell(self, told: Told) -> None:
        with self._output:
            sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
            sys.stdout.buffer.flush()


def main() -> None:
    """Run until standard input ends."""
    weights, count, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    streams = Streams(weights, tokens)
    threads = [threading.Thread(target=streams.run, args=(stream,)) for stream in range(count)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    streams.ending.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
