"""Chaos: checked streams over two replicas of each half of a model, while replicas and their links fail in turn.

    python bench/chaos.py --minutes 10 [--model smollm2] [--streams 4] [--seed 1] [--network | --tls]

It writes bench/results/chaos.json (chaos-network.json, chaos-tls.json) and ends with status 1 if a promise is broken: a
wrong token, a lost or hung request, a process that grows, a pause at a killed replica beyond the limit
(`fabric/judge.py`).
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from fabric import judge
from fabric.judge import Happened
from fabric.load import Load
from fabric.plan import Event, plan
from fabric.stages import Stage, loopback, namespaces
from fabric.streams import expected
from fabric.vitals import Vital, Watch, flat, growth
from stored import conclude, heading

from twofold.model.checkpoint import Checkpoint
from twofold.store.pull import ensure

ROOT = Path(__file__).resolve().parent.parent
TOKENS = 64  # of a request


def play(stage: Stage, events: Sequence[Event], seconds: float, watch: Watch) -> list[Happened]:
    """Do every event to its replica, and keep the load going for `seconds` in all.

    An event that takes longer than planned, as a replica that starts again may, puts off those after it.
    """
    start = time.monotonic()
    late = 0.0
    happened: list[Happened] = []
    for event in events:
        began = _reached(start + event.at + late)
        if began + event.seconds > start + seconds:
            break
        stage.begin(event)
        ended = _reached(began + event.seconds)
        stage.end(event)
        back = time.monotonic()
        late = back - start - event.end
        happened.append(Happened(event, began, ended, back))
        watch.add(f"replica {event.target}", stage.replicas[event.target].process.pid)
        print(f"{began - start:7.1f} s  {event.kind} of replica {event.target} for {back - began:.1f} s", flush=True)
    _reached(start + seconds)
    return happened


def _reached(moment: float) -> float:
    """Now, which is `moment` or later."""
    time.sleep(max(moment - time.monotonic(), 0))
    return time.monotonic()


def chaos(stage: Stage, tokens: list[list[int]], *, seconds: float, streams: int, seed: int) -> dict[str, Any]:
    """The whole run on a stage; its figures, and the promises."""
    events = plan(seed, seconds, len(stage.replicas), stage.kinds)
    environment = dict(stage.environment)
    load = Load(stage.weights, streams=streams, tokens=TOKENS, start=stage.start, environment=environment)
    with load, Watch() as watch:
        load.begin()
        watch.add("context", load.process.pid)
        for number, replica in enumerate(stage.replicas):
            watch.add(f"replica {number}", replica.process.pid)
        happened = play(stage, events, seconds, watch)
        start = happened[0].began - events[0].at if events else time.monotonic()
        load.finish()
        words = load.last_words()
    counts = judge.count(load.told, tokens)
    by_kind = judge.pauses(load.told, happened)
    swollen = [name for name, samples in watch.samples.items() if not flat(samples)]
    return {
        "seconds": seconds, "streams": streams, "seed": seed, "replicas": len(stage.replicas),
        "counts": msgspec.to_builtins(counts), "pauses_ms": msgspec.to_builtins(by_kind), "swollen": swollen,
        "vitals": {name: vitals(samples) for name, samples in watch.samples.items()},
        "events": [[round(h.began - start, 3), *h.event[1:3], round(h.back - h.began, 3)] for h in happened],
        "last_words": words,
        "promises": judge.told_promises(judge.promises(counts, by_kind, swollen)),
    }  # fmt: skip


def vitals(samples: Sequence[Vital]) -> dict[str, Any]:
    """First, last and growth of a process."""
    grown = growth(list(samples))
    return {
        "seconds": round(samples[-1].at - samples[0].at, 1),
        "resident_bytes": [samples[0].resident_bytes, samples[-1].resident_bytes],
        "descriptors": [samples[0].descriptors, samples[-1].descriptors],
        "growth": grown and [grown.resident_bytes, grown.descriptors],
    }


def segments_of(model: str) -> int:
    """How many segments a model has."""
    with Checkpoint.open(ensure(model)) as checkpoint:
        return len(checkpoint.model.segments)


@contextlib.contextmanager
def staged(asked: argparse.Namespace) -> Iterator[Stage]:
    """The stage that was asked for."""
    segments = segments_of(asked.model)
    with tempfile.TemporaryDirectory() as keys:
        if asked.tls:
            place = namespaces(asked.model, segments, count=asked.shares, seed=asked.seed, keys=Path(keys))
        else:
            place = (namespaces if asked.network else loopback)(
                asked.model, segments, count=asked.shares, seed=asked.seed
            )
        with place as stage:
            yield stage


def main() -> None:
    """Run, print, store; status 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--shares", type=int, default=2, help="parts of the model, each with two replicas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--network", action="store_true", help="every process on a host of its own")
    parser.add_argument("--tls", action="store_true", help="the same over tls://, with tokens")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    result = heading()
    tokens = expected(asked.model, TOKENS)
    with staged(asked) as stage:
        result |= chaos(stage, tokens, seconds=60 * asked.minutes, streams=asked.streams, seed=asked.seed)
    name = "chaos-tls.json" if asked.tls else "chaos-network.json" if asked.network else "chaos.json"
    output = asked.output or ROOT / "bench" / "results" / name
    conclude(result, output, {name: result[name] for name in ("counts", "pauses_ms", "swollen", "promises")})


if __name__ == "__main__":
    main()
