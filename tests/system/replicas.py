"""A model spread over weight processors that are commands of their own, and an engine over them in this process."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from command import Running, start

from twofold.config import Settings
from twofold.engine.assemble import Ready, open_engine
from twofold.engine.generate import Generation
from twofold.engine.limits import Limits
from twofold.engine.sampling import Sampling

PROMPT = "Why is the sky blue?"
Answer = tuple[list[int], str]  # tokens, digest of their logits


class Fabric:
    """Weight processors by name, each at shm://FOLDER/NAME."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.running: dict[str, Running] = {}

    def url(self, *names: str) -> str:
        """The addresses of some, joined by commas."""
        return ",".join(f"shm://{self.folder}/{name}" for name in names)

    def used(self, ready: Ready, segment: int) -> Running:
        """The one that would be called next for `segment`."""
        attachments = ready.engine.weights.attachments
        url = attachments.map.choose(segment, attachments.burden)
        return next(running for name, running in self.running.items() if self.url(name) == url)

    def start(self, name: str, segments: str) -> Running:
        """Start one without waiting until it is ready; one of that name that runs is killed."""
        if name in self.running:
            self.running.pop(name).__exit__()
        where = ("--listen", self.url(name), "--segments", segments, "--threads", "1")
        self.running[name] = start("weights", self.model, *where)
        return self.running[name]


@contextlib.contextmanager
def fabric(model: Path, folder: Path, shares: dict[str, str]) -> Iterator[Fabric]:
    """Processors of these segments by name, ready; nothing is left of them afterwards."""
    made = Fabric(model, folder)
    try:
        for name, segments in shares.items():
            made.start(name, segments)
        for running in made.running.values():
            running.wait_output(b"\n")
        yield made
    finally:
        for running in made.running.values():
            running.__exit__()


@contextlib.contextmanager
def attached(
    *, model: Path | None = None, wait: int = 30, weights: str | None = None, map_file: Path | None = None
) -> Iterator[Ready]:
    """An engine over processors, or with `model` all in this process."""
    settings = Settings(threads=1, weights=weights, map=map_file and str(map_file), wait=wait)
    with open_engine(model and str(model), settings, split=False, progress=lambda *_: None) as ready:
        yield ready


def generation(ready: Ready, tokens: int) -> tuple[Generation, list[int]]:
    """A seeded generation of so many tokens in a session of its own, and its prompt."""
    sampling = Sampling(temperature=0.8, seed=5)
    made = Generation(ready.engine, ready.engine.open(), ready.tokenizer, sampling, Limits(tokens, ignore_end=True))
    return made, ready.tokenizer.encode(PROMPT)


def answer(
    ready: Ready, tokens: int, events: Sequence[tuple[int, Callable[[], object]]] = ()
) -> tuple[Answer, list[float]]:
    """(tokens and digest, pauses between tokens in seconds); each event happens once so many tokens are there."""
    made, prompt = generation(ready, tokens)
    left = sorted(events, key=lambda event: event[0])
    pauses: list[float] = []
    before = 0.0
    seen = 0
    for _ in made.run(prompt):
        now = time.monotonic()
        if before and len(made.token_ids) == seen + 1:
            pauses.append(now - before)
        before, seen = now, len(made.token_ids)
        while left and left[0][0] <= seen:
            left.pop(0)[1]()
    assert not left
    return (made.token_ids, made.logits_digest), pauses
