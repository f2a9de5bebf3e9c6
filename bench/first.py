"""The first table: one stream and a prefill of 700, both memories in process, over shared memory, over TCP.

    make bench            writes bench/results/first.json and prints the table

Rounds go through the three ways in turn, so a drift of the machine meets all of them alike; the figures are
medians of the rounds with minimum and maximum beside them. Run it on a machine that does nothing else.
"""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from twofold.config import Settings
from twofold.engine.assemble import Ready, open_engine
from twofold.engine.machine import stamp
from twofold.kernels.native import Native, physical_cores
from twofold.processor.spawn import SpawnedWeights, weights_command
from twofold.store.progress import silent
from twofold.store.pull import ensure

ROOT = Path(__file__).resolve().parent.parent
PROMPT, GENERATED, PREFILL = 12, 128, 700
Samples = dict[str, dict[str, list[float]]]


@contextlib.contextmanager
def three_ways(path: Path) -> Iterator[dict[str, Ready]]:
    """The same model three times: all threads in process; else one thread a side."""
    threads = max(1, physical_cores() - 1)
    with contextlib.ExitStack() as stack:
        ways = {"in process": stack.enter_context(open_engine(str(path), Settings(), split=False, progress=silent))}
        ways["in process, 1 thread"] = stack.enter_context(
            open_engine(str(path), Settings(threads=1), split=False, progress=silent)
        )
        for name, url in (("shm", None), ("tcp", "tcp://127.0.0.1:0")):
            child = stack.enter_context(SpawnedWeights(weights_command(path, listen=url, threads=threads)))
            ways[name] = stack.enter_context(
                open_engine(None, Settings(weights=child.url, threads=1), split=False, progress=silent)
            )
        yield ways


def decode_rate(ready: Ready, tokens: list[int]) -> float:
    """Tokens a second of one stream after a short prompt; logits come back every time."""
    engine, session = ready.engine, ready.engine.open()
    engine.feed(session, tokens[:PROMPT])
    start = time.perf_counter()
    for token in tokens[PROMPT : PROMPT + GENERATED]:
        engine.feed(session, [token])
    seconds = time.perf_counter() - start
    engine.close(session)
    return GENERATED / seconds


def prefill_rate(ready: Ready, tokens: list[int]) -> float:
    """Prompt tokens a second until the logits of the last are there."""
    engine, session = ready.engine, ready.engine.open()
    start = time.perf_counter()
    engine.feed(session, tokens[:PREFILL])
    seconds = time.perf_counter() - start
    engine.close(session)
    return PREFILL / seconds


def measure(path: Path, rounds: int) -> Samples:
    """Tokens a second of every round, by way and by work."""
    samples: Samples = {}
    with three_ways(path) as ways:
        vocabulary = next(iter(ways.values())).engine.manifest.vocabulary
        for turn in range(rounds + 1):
            tokens = np.random.default_rng(turn).integers(0, vocabulary, PREFILL + 1).tolist()
            for name, ready in ways.items():
                figures = {"decode": decode_rate(ready, tokens), "prefill": prefill_rate(ready, tokens)}
                if turn:  # the first round warms up
                    for work, rate in figures.items():
                        samples.setdefault(name, {}).setdefault(work, []).append(rate)
    return samples


def table(samples: Samples) -> str:
    """Medians, with minimum and maximum, as Markdown."""
    lines = [f"| way | 1 stream, {GENERATED} tokens, tok/s | prefill of {PREFILL}, tok/s |", "|---|---|---|"]
    for name, works in samples.items():
        cells = [f"{statistics.median(v):.0f} ({min(v):.0f}–{max(v):.0f})" for v in works.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "first.json")
    arguments = parser.parse_args()
    backend = Native()
    result: dict[str, object] = {"command": "make bench", **stamp(backend.capabilities())}
    backend.close()
    samples = measure(ensure("smollm2"), arguments.rounds)
    result |= {"unit": "tokens a second", "samples": samples, "table": table(samples).splitlines()}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(samples))


if __name__ == "__main__":
    main()
