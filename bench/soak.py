"""`twofold serve` with more to do than it can, for long, and clients that go away; then its end, its death, its return.

    python bench/soak.py --minutes 30 --load 1.5 [--model smollm2] [--seed 1] [--output FILE]

First it measures how many requests a second are answered when all places are taken. Then so many times as many come,
by a Poisson process, under two API keys; every fifth client goes away at some moment. Then: SIGTERM with answers under
way, kill -9 with answers under way, and a start at the same port. It ends with status 1 if a promise is broken.
"""

import argparse
import asyncio
import http.client
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from fabric import judge
from fabric.judge import Promise
from fabric.repeated import Repeated
from fabric.vitals import SLACK_DESCRIPTORS, Vital, Watch, flat, growth, look
from stored import conclude, heading
from traffic.client import Seen, Server, ask
from traffic.outcomes import ANSWERED, Outcomes, kind, outcomes
from traffic.process import ServeProcess
from traffic.work import Asked, Mix, requests

from twofold.model.checkpoint import Checkpoint
from twofold.schedule.stream import PATIENCE
from twofold.store.pull import ensure

ROOT = Path(__file__).resolve().parent.parent
KEYS = ("one-key-of-the-soak", "two-key-of-the-soak")
LEAVING, LEAVING_PIECES = 0.2, 8
TOGETHER = 64  # clients while capacity is measured: every place is taken
BLOCK = 64  # requests that are made up at once
LAST = 8  # answers under way when it is to end, or is killed
CLIENT_SECONDS = 2 * PATIENCE  # after that a client calls it a timeout
WAIT_SLACK, OVERTAKEN_SECONDS, RETURN_SECONDS, DRAIN_SECONDS, CALM_SECONDS = 1.25, 2.0, 2.0, 30.0, 30.0
SLACK_TASKS = 2
FIGURES = {
    "running": "vllm:num_requests_running", "waiting": "vllm:num_requests_waiting", "tasks": "twofold:tasks",
    "swapped": "vllm:num_requests_swapped", "used": "vllm:kv_cache_usage_perc",
    "cached": "twofold:context_pages_cached",
    "oldest_seconds": "twofold:oldest_waiting_seconds", "preemptions": "vllm:num_preemptions_total",
}  # fmt: skip


class Looking(Repeated):
    """Notes the figures of a server every second while the block runs."""

    def __init__(self, served: ServeProcess) -> None:
        super().__init__(1.0)
        self._served = served
        self.seen: list[dict[str, float]] = []
        self.unanswered: list[str] = []

    def once(self) -> None:
        """One look."""
        try:
            self.seen.append(figures(self._served))
        except (OSError, http.client.HTTPException) as error:
            self.unanswered.append(repr(error))


def figures(served: ServeProcess) -> dict[str, float]:
    """The figures of a server that must not grow."""
    told, vital = served.metrics(KEYS[0]), look(served.process.pid)
    return {
        **{name: told[metric] for name, metric in FIGURES.items()},
        "descriptors": vital.descriptors if vital else 0,
    }


def endless(seed: int, rate: float, mix: Mix) -> Iterator[Asked]:
    """Requests without end; `at` goes on."""
    start = 0.0
    while True:
        block = requests(seed, BLOCK, rate, mix)
        yield from (one._replace(at=start + one.at) for one in block)
        start, seed = start + block[-1].at, seed + 1


async def capacity(server: Server, mix: Mix, seconds: float, seed: int) -> float:
    """Requests a second that are answered to TOGETHER clients, each of which asks again at once."""
    source, answered = endless(seed, 1.0, mix), 0
    start = time.monotonic()

    async def client(number: int) -> None:
        nonlocal answered
        while time.monotonic() < start + seconds:
            seen = await ask(server, next(source), key=KEYS[number % len(KEYS)])
            answered += kind(seen) == ANSWERED

    await asyncio.gather(*map(client, range(TOGETHER)))
    return answered / (time.monotonic() - start)


async def pour(server: Server, mix: Mix, *, rate: float, seconds: float, seed: int) -> list[Seen]:
    """Requests at that rate for so long; what became of all, once all have ended."""
    draw = random.Random(seed)
    start = time.monotonic()
    tasks: list[asyncio.Task[Seen]] = []
    async with asyncio.TaskGroup() as group:
        for asked in endless(seed, rate, mix):
            if asked.at > seconds:
                break
            await asyncio.sleep(max(start + asked.at - time.monotonic(), 0))
            leave = draw.randrange(LEAVING_PIECES) if draw.random() < LEAVING else None
            key = draw.choice(KEYS)
            tasks.append(group.create_task(ask(server, asked, key=key, leave_after=leave, patience=CLIENT_SECONDS)))
    return [task.result() for task in tasks]


async def calm(served: ServeProcess) -> dict[str, float]:
    """The figures once nothing is under way, or after CALM_SECONDS."""
    expiry = time.monotonic() + CALM_SECONDS
    while True:
        now = await asyncio.to_thread(figures, served)
        if not now["running"] + now["waiting"] + now["used"] or time.monotonic() > expiry:
            return now
        await asyncio.sleep(0.2)


async def under_way(served: ServeProcess, mix: Mix, seed: int) -> list[asyncio.Task[Seen]]:
    """So many answers, all of them begun."""
    longest = mix.answer[1]
    asked = [one._replace(tokens=longest) for one in requests(seed, LAST, 1.0, mix)]
    tasks = [asyncio.create_task(ask(served.server, one, key=KEYS[0])) for one in asked]
    while (await asyncio.to_thread(figures, served))["running"] < LAST and not any(task.done() for task in tasks):
        await asyncio.sleep(0)
    return tasks


async def ending(served: ServeProcess, mix: Mix, seed: int) -> dict[str, Any]:
    """SIGTERM while answers are under way: whether they end whole, and it too."""
    tasks = await under_way(served, mix, seed)
    start = time.monotonic()
    served.signal(signal.SIGTERM)
    code = await asyncio.to_thread(served.ended, DRAIN_SECONDS)
    seconds = time.monotonic() - start
    seen = await asyncio.gather(*tasks)
    served.kill()
    whole = sum(kind(one) == ANSWERED for one in seen)
    return {"under_way": len(tasks), "whole": whole, "status": code, "seconds": seconds}


async def returning(served: ServeProcess, mix: Mix, seed: int) -> dict[str, Any]:
    """kill -9 while answers are under way: how long from its new start to the first answer, beside loading before."""
    served.begin()
    before = served.loaded
    tasks = await under_way(served, mix, seed)
    served.kill()
    lost = [kind(one) for one in await asyncio.gather(*tasks)]
    start = time.monotonic()
    served.begin()
    seen = await ask(served.server, requests(seed, 1, 1.0, mix)[0]._replace(tokens=1), key=KEYS[0])
    return {
        "load_seconds": before, "answered": kind(seen) == ANSWERED, "answer_seconds": time.monotonic() - start,
        "requests_it_was_killed_with": lost,
    }  # fmt: skip


def mix_of(model: Path) -> Mix:
    """Requests that a model has room for: of the usual lengths, or shares of its context where that is short."""
    with Checkpoint.open(model) as checkpoint:
        manifest = checkpoint.model.manifest
    usual, vocabulary = Mix(), min(Mix().vocabulary, manifest.vocabulary)
    if manifest.context_length >= usual.prefix + usual.prompt[1] + usual.answer[1]:
        return usual._replace(vocabulary=vocabulary)
    quarter = manifest.context_length // 4
    return Mix((quarter // 16 or 1, quarter), (quarter // 4 or 1, quarter), quarter, usual.sharing, vocabulary)


async def soaked(served: ServeProcess, mix: Mix, *, seconds: float, load: float, seed: int) -> dict[str, Any]:
    """The whole run on a server that is ready; its figures."""
    rate = await capacity(served.server, mix, max(seconds / 20, 3.0), seed)
    first = await calm(served)
    print(f"{rate:.1f} requests a second are answered; now {load:g} times as many come", flush=True)
    with Watch() as watch, Looking(served) as looking:
        watch.add("server", served.process.pid)
        seen = await pour(served.server, mix, rate=load * rate, seconds=seconds, seed=seed + 1_000_000)
        last = await calm(served)
    (samples,) = watch.samples.values()
    told = outcomes(seen)
    print(f"{told.answered} answered, {told.refused} refused, {told.left} left, {told.failed} failed", flush=True)
    return {
        "capacity": rate, "outcomes": told, "first": first, "last": last, "looks": looking.seen, "samples": samples,
        "unanswered": looking.unanswered,
        "drain": await ending(served, mix, seed), "return": await returning(served, mix, seed),
    }  # fmt: skip


def promises(run: dict[str, Any], load: float) -> dict[str, Promise]:
    """What was promised, and what came."""
    told: Outcomes = run["outcomes"]
    samples: list[Vital] = run["samples"]
    first, last, drain, back = run["first"], run["last"], run["drain"], run["return"]
    return {
        "requests with neither an answer nor an honest 429": Promise(told.failed, 0),
        "overload without a 429": Promise(load > 1 and not told.refused, 0),
        "memory or descriptors that grow": Promise(not flat(samples), 0),
        "descriptors more at the end": Promise(last["descriptors"] - first["descriptors"], SLACK_DESCRIPTORS),
        "looks at the figures without an answer": Promise(len(run["unanswered"]), 0),
        "pages held by nobody": Promise(last["used"], 0),
        "tasks more at the end": Promise(last["tasks"] - first["tasks"], SLACK_TASKS),
        "oldest that waited, s": Promise(max(one["oldest_seconds"] for one in run["looks"]), WAIT_SLACK * PATIENCE),
        "longest until a first token, s": Promise(told.longest_seconds, WAIT_SLACK * PATIENCE),
        "overtaken by a later one of its key, s": Promise(told.overtaken_seconds, OVERTAKEN_SECONDS),
        "answers cut off by SIGTERM": Promise(drain["under_way"] - drain["whole"], 0),
        "no end in order after SIGTERM": Promise(drain["status"] != 0, 0),
        "no answer after kill -9": Promise(not back["answered"], 0),
        "answer after kill -9 and start, s beyond loading": Promise(
            round(back["answer_seconds"] - back["load_seconds"], 3), RETURN_SECONDS
        ),
    }


def soak(model: Path, *, context: int, seconds: float, load: float, seed: int) -> dict[str, Any]:
    """All of it; figures and promises."""
    mix = mix_of(model)
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder, "keys")
        keys.touch(0o600)
        keys.write_text("".join(f"key{number} {key}\n" for number, key in enumerate(KEYS)))
        options = ("--context", str(context), "--api-key-file", str(keys), "--drain", str(int(DRAIN_SECONDS)))
        with ServeProcess(str(model), *options) as served:
            served.begin()
            run = asyncio.run(soaked(served, mix, seconds=seconds, load=load, seed=seed))
    kept = promises(run, load)
    samples: list[Vital] = run.pop("samples")
    grown = growth(samples)
    looks = run.pop("looks")
    return {
        "seconds": seconds, "load": load, "seed": seed, "context": context, "mix": mix._asdict(),
        **msgspec.to_builtins(run),
        "most": {name: max(one[name] for one in looks) for name in looks[0]},
        "resident_bytes": [one.resident_bytes for one in samples[:: max(len(samples) // 100, 1)]],
        "descriptors": [one.descriptors for one in samples[:: max(len(samples) // 100, 1)]],
        "growth": grown and [grown.resident_bytes, grown.descriptors],
        "promises": judge.told_promises(kept),
    }  # fmt: skip


def main() -> None:
    """Run, print, store; status 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--load", type=float, default=1.5, help="times what it can answer")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--context", type=int, default=16_384, help="positions of context memory")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "soak.json")
    asked = parser.parse_args()
    result = heading()
    model = ensure(asked.model).resolve()
    result |= soak(model, context=asked.context, seconds=60 * asked.minutes, load=asked.load, seed=asked.seed)
    conclude(result, asked.output, {name: result[name] for name in ("outcomes", "most", "promises")})


if __name__ == "__main__":
    main()
