"""The first table: one stream and a prefill of 700, both memories in process, over shared memory, TCP and TLS.

    make bench            writes bench/results/first.json and prints the table

Rounds go through the ways in turn, so a drift of the machine meets all of them alike; the figures are
medians of the rounds with minimum and maximum beside them. Run it on a machine that does nothing else.
"""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from stored import heading, store

from twofold.config import Settings
from twofold.engine.assemble import Ready, open_engine
from twofold.kernels.native import physical_cores
from twofold.processor.spawn import SpawnedWeights, weights_command
from twofold.store.progress import silent
from twofold.store.pull import ensure

ROOT = Path(__file__).resolve().parent.parent
PROMPT, GENERATED, PREFILL = 12, 128, 700
Samples = dict[str, dict[str, list[float]]]


@contextlib.contextmanager
def joined() -> Iterator[str]:
    """A tls:// address of this host that its own keys, in a folder made for it, let it use."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free, contextlib.ExitStack() as stack:
        before = os.environ.get("XDG_CONFIG_HOME")
        os.environ["XDG_CONFIG_HOME"] = folder
        stack.callback(os.environ.pop, "XDG_CONFIG_HOME")
        if before is not None:
            stack.callback(os.environ.update, XDG_CONFIG_HOME=before)
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        twofold = [sys.executable, "-m", "twofold"]
        invitation = subprocess.check_output(
            [*twofold, "keys", "grant", "bench", "--host", place], stderr=subprocess.DEVNULL
        )
        subprocess.run([*twofold, "join", "-"], input=invitation, check=True, capture_output=True)
        yield f"tls://{place}"


@contextlib.contextmanager
def all_ways(path: Path) -> Iterator[dict[str, Ready]]:
    """The same model again and again: all threads in process; else one thread a side."""
    threads = max(1, physical_cores() - 1)
    with contextlib.ExitStack() as stack:
        ways = {"in process": stack.enter_context(open_engine(str(path), Settings(), split=False, progress=silent))}
        ways["in process, 1 thread"] = stack.enter_context(
            open_engine(str(path), Settings(threads=1), split=False, progress=silent)
        )
        for name, url in (("shm", None), ("tcp", "tcp://127.0.0.1:0"), ("tls", stack.enter_context(joined()))):
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
    with all_ways(path) as ways:
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
    """Medians with minimum and maximum, and what share of one thread in process a stream has, as Markdown."""
    lines = [
        f"| way | 1 stream, {GENERATED} tokens, tok/s | of one thread in process | prefill of {PREFILL}, tok/s |",
        "|---|---|---|---|",
    ]
    alone = samples["in process, 1 thread"]["decode"]
    for name, works in samples.items():
        cells = [f"{statistics.median(v):.0f} ({min(v):.0f}–{max(v):.0f})" for v in works.values()]
        share = statistics.median(one / other for one, other in zip(works["decode"], alone, strict=True))
        lines.append(f"| {name} | {cells[0]} | {share:.2f} | {cells[1]} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "first.json")
    arguments = parser.parse_args()
    result = heading("make bench")
    samples = measure(ensure("smollm2"), arguments.rounds)
    result |= {"unit": "tokens a second", "samples": samples, "table": table(samples).splitlines()}
    store(result, arguments.output)
    print(table(samples))


if __name__ == "__main__":
    main()
