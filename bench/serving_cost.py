"""What serving costs: answers through `Serving` beside `Engine.decode` of as many sessions, a prefix hit beside a miss.

    python bench/serving_cost.py [--streams 1,8,32] [--rounds 3] [--json FILE]

Both ways decode on the same engine, in turns; milliseconds of a step. Answers are read in one event loop.
The time to the first token is that of a prompt of `PREFIX` tokens, asked for twice.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import time
from pathlib import Path

from twofold.config import read_settings
from twofold.engine.answer import Answer
from twofold.engine.assemble import Ready, open_engine
from twofold.engine.engine import Engine
from twofold.engine.limits import Limits
from twofold.engine.measure import some_tokens
from twofold.engine.request import Request
from twofold.engine.sampling import Sampling
from twofold.engine.serving import Serving

PROMPT, TOKENS, PREFIX = 16, 64, 700
SAMPLED = Sampling(temperature=0.8, top_p=0.95, seed=1)
SEEDS = itertools.count(1)


def decoded(engine: Engine, streams: int) -> float:
    """Milliseconds of a bare step of so many streams, the likeliest token chosen; the median."""
    sessions = [engine.open() for _ in range(streams)]
    for session in sessions:
        engine.feed(session, some_tokens(PROMPT, engine.manifest.vocabulary, next(SEEDS)))
    chosen, times = some_tokens(streams, engine.manifest.vocabulary), [time.perf_counter()]
    for _ in range(TOKENS):
        chosen = [int(row.argmax()) for row in engine.decode(sessions, chosen)]
        times.append(time.perf_counter())
    for session in sessions:
        engine.close(session)
    return gap_ms(times)


async def served(serving: Serving, streams: int, sampling: Sampling) -> float:
    """Milliseconds between the tokens of one stream while as many are under way, read in one event loop; the median."""
    times: list[float] = []
    answers = []
    for _ in range(streams):
        prompt = tuple(some_tokens(PROMPT, serving.manifest.vocabulary, next(SEEDS)))
        limits = Limits(TOKENS + 40, ignore_end=True)
        answers.append(serving.submit(Request(prompt=prompt, sampling=sampling, limits=limits)))

    async def read(answer: Answer) -> None:
        tokens = 0
        async for piece in answer:
            tokens += len(piece.chosen)
            if answer is answers[-1] and tokens <= TOKENS and len(piece.chosen) == 1:
                times.append(time.perf_counter())

    await asyncio.gather(*map(read, answers))
    return gap_ms(times)


def gap_ms(times: list[float]) -> float:
    """The median of what is between them, in milliseconds."""
    return 1e3 * statistics.median(late - early for early, late in itertools.pairwise(times))


def first_token(serving: Serving, prompt: list[int]) -> float:
    """Milliseconds until the first piece of an answer."""
    start = time.perf_counter()
    limits = Limits(1, ignore_end=True)
    next(iter(serving.submit(Request(prompt=tuple(prompt), sampling=Sampling(), limits=limits))))
    return 1e3 * (time.perf_counter() - start)


def measure(ready: Ready, streams: list[int], rounds: int) -> dict[str, object]:
    """All figures, each with its rounds."""
    found: dict[str, list[float]] = {}
    for count in streams:
        for _ in range(rounds):
            found.setdefault(f"decode {count}, ms", []).append(decoded(ready.engine, count))
            with Serving(ready.engine, ready.tokenizer) as serving:
                found.setdefault(f"serving {count}, ms", []).append(asyncio.run(served(serving, count, Sampling())))
                found.setdefault(f"serving {count}, sampled, ms", []).append(
                    asyncio.run(served(serving, count, SAMPLED))
                )
    with Serving(ready.engine, ready.tokenizer) as serving:
        for _ in range(rounds):
            prompt = some_tokens(PREFIX, ready.engine.manifest.vocabulary, next(SEEDS))
            found.setdefault("first token, miss, ms", []).append(first_token(serving, prompt))
            found.setdefault("first token, hit, ms", []).append(first_token(serving, prompt))
    return {what: {"median": statistics.median(values), "rounds": values} for what, values in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--streams", default="1,8,32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    streams = [int(count) for count in arguments.streams.split(",")]
    with open_engine(arguments.model, read_settings(), split=False, progress=lambda *_: None) as ready:
        figures = measure(ready, streams, arguments.rounds)
    for what, figure in figures.items():
        print(f"{what:24} {figure['median']:10.2f}")  # type: ignore[index]
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
