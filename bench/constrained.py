"""What a constraint costs a token: streams that must answer in JSON beside free ones, on one engine, in turns.

    python bench/constrained.py [--model smollm2] [--streams 1,8] [--rounds 5] [--json FILE]

Milliseconds between two tokens of a stream (TPOT), the median and the 99th of 100, each the median of the rounds.
`free`: no constraint. `served`: as it is served. `beside`: every mask is handed to another thread. `after`: every mask
is made when the step is over.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from twofold.config import read_settings
from twofold.engine.assemble import Ready, open_engine
from twofold.engine.constraint import Constraint
from twofold.engine.limits import Limits
from twofold.engine.masks import Mask, Masks
from twofold.engine.measure import some_tokens
from twofold.engine.request import Chosen, Request
from twofold.engine.sampler import Sampler
from twofold.engine.sampling import Sampling
from twofold.engine.serving import Serving
from twofold.kernels.arithmetic import F32
from twofold.model.tokenizer import Tokenizer
from twofold.units import Seconds

PROMPT, TOKENS = 16, 100
PLACE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
LONG = Constraint("json_schema", json.dumps({"type": "array", "items": PLACE, "minItems": 1000}))
SEEDS = itertools.count(1)


class Beside(Masks):
    """Hands every mask over."""

    @contextlib.contextmanager
    def made(self, masks: Iterable[Mask]) -> Iterator[None]:
        """All of them."""
        known = list(masks)
        for mask in known:
            mask.seconds = Seconds(1.0)
        with super().made(known):
            yield


class Timed(Sampler):
    """Notes when each token is chosen, in seconds."""

    def __init__(self, request: Request, tokenizer: Tokenizer, vocabulary: int) -> None:
        super().__init__(request, tokenizer, vocabulary)
        self.times: list[float] = []

    def choose(self, logits: F32, position: int) -> Chosen:
        """Choose, and note it."""
        chosen = super().choose(logits, position)
        self.times.append(time.perf_counter())
        return chosen


class Afterwards(Timed):
    """Makes each mask only when it is needed."""

    def prepare(self) -> None:
        """Nothing yet."""


WAYS: dict[str, tuple[Constraint | None, type[Timed], type[Masks]]] = {
    "free": (None, Timed, Masks),
    "served": (LONG, Timed, Masks),
    "beside": (LONG, Timed, Beside),
    "after": (LONG, Afterwards, Masks),
}


def gaps_ms(ready: Ready, way: str, streams: int) -> list[float]:
    """Milliseconds between the tokens of all of so many streams."""
    constraint, kind, masks = WAYS[way]
    samplers: list[Timed] = []

    def choosing(request: Request, tokenizer: Tokenizer, vocabulary: int) -> Timed:
        samplers.append(kind(request, tokenizer, vocabulary))
        return samplers[-1]

    with Serving(ready.engine, ready.tokenizer, choosing=choosing, masks=masks()) as serving:
        answers = []
        for _ in range(streams):
            seed = next(SEEDS)
            prompt = tuple(some_tokens(PROMPT, serving.manifest.vocabulary, seed))
            sampling, limits = Sampling(temperature=0.7, seed=seed), Limits(TOKENS, ignore_end=True)
            answers.append(
                serving.submit(Request(prompt=prompt, sampling=sampling, limits=limits, constraint=constraint))
            )
        for answer in answers:
            for _ in answer:
                pass
    return [1e3 * (late - early) for sampler in samplers for early, late in itertools.pairwise(sampler.times)]


def measure(ready: Ready, streams: list[int], rounds: int) -> dict[str, dict[str, object]]:
    """All figures, each with its rounds."""
    found: dict[str, list[float]] = {}
    for count in streams:
        for _ in range(rounds):
            for way in WAYS:
                gaps = gaps_ms(ready, way, count)
                found.setdefault(f"{count} {way}, ms", []).append(statistics.median(gaps))
                found.setdefault(f"{count} {way}, 99 of 100, ms", []).append(float(np.quantile(gaps, 0.99)))
    return {what: {"median": statistics.median(values), "rounds": values} for what, values in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--streams", default="1,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    streams = [int(count) for count in arguments.streams.split(",")]
    with open_engine(arguments.model, read_settings(), split=False, progress=lambda *_: None) as ready:
        figures = measure(ready, streams, arguments.rounds)
    for what, figure in figures.items():
        print(f"{what:28} {figure['median']:10.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
