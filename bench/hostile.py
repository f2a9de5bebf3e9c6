"""What a stream of `twofold serve` loses while somebody sends it bad input.

    python bench/hostile.py [--model smollm2] [--seconds 15] [--rounds 3] [--seed 1] [--output FILE]

A client asks again and again. Every kind of bad input (`traffic/hostility.py`) comes between two quiet times, and all
of them come in every round. TPOT, the time of a token, is the median over the client's answers in such a time. The
attacker runs at the lowest priority, so that it disturbs by the work that it causes and not by its own; of the rounds
the least disturbed counts, since other programs disturb too. It ends with status 1 if a promise is broken.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attack import low
from fabric import judge
from fabric.judge import Promise
from fabric.processors import Child
from fabric.vitals import look
from stored import conclude, heading
from traffic.client import Seen, ask
from traffic.figures import at
from traffic.hostility import KINDS
from traffic.outcomes import ANSWERED, kind
from traffic.process import ServeProcess
from traffic.work import Asked, Mix, requests

from twofold.store.pull import ensure

ROOT = Path(__file__).resolve().parent.parent
MALFORMED = 10_000  # bodies over all rounds
DISTURBED = 0.20
SILENT = 1000.0  # the disturbance of a client that had no answer at all
TOKENS, PROMPT = 48, 12
SMALL = Mix(prompt=(PROMPT, PROMPT), answer=(TOKENS, TOKENS), prefix=0, sharing=0.0)


class Client:
    """Asks again and again until it is told to stop; `seen` is what came."""

    def __init__(self, served: ServeProcess) -> None:
        self.seen: list[Seen] = []
        self._served, self._over = served, False

    async def run(self) -> None:
        """Ask."""
        for seed in itertools.count():
            if self._over:
                return
            (asked,) = requests(seed, 1, 1.0, SMALL)
            self.seen.append(await ask(self._served.server, Asked(0.0, asked.prompt, TOKENS)))

    def stop(self) -> None:
        """After the answer in hand."""
        self._over = True

    def between(self, start: float, end: float) -> list[Seen]:
        """Answers that were asked for and complete in that time."""
        return [one for one in self.seen if one.sent >= start and one.last is not None and one.last <= end]


def times(all_seen: Sequence[Seen]) -> dict[str, float]:
    """TPOT and TTFT of answers, in milliseconds; of none, none."""
    whole = [one for one in all_seen if kind(one) == ANSWERED and one.first and one.last]
    if not whole:
        return {}
    tpot = [1000 * ((one.last or 0) - (one.first or 0)) / (TOKENS - 1) for one in whole]
    ttft = [1000 * ((one.first or 0) - one.sent) for one in whole]
    return {
        "answers": len(whole), "tpot": statistics.median(tpot), "tpot_p99": at(tpot, 0.99),
        "ttft": statistics.median(ttft), "ttft_p99": at(ttft, 0.99),
    }  # fmt: skip


async def attack(name: str, served: ServeProcess, client: Client, asked: argparse.Namespace, seed: int) -> Any:
    """One kind of bad input between two quiet times: what it got, and what the client had meanwhile."""
    cases = MALFORMED // asked.rounds if name == "malformed" else sys.maxsize
    seconds = 40 * asked.seconds if name == "malformed" else asked.seconds
    moments = [time.monotonic()]
    await asyncio.sleep(asked.seconds / 2)
    moments.append(time.monotonic())
    place = f"{served.server.host}:{served.server.port}"
    words = ["-m", "traffic.hostility", name, place, str(seed), str(seconds), str(cases)]
    with Child(words, start=low) as attacker:
        attacker.start()
        told, _ = await asyncio.to_thread(attacker.process.communicate)
        words_of = attacker.last_words()
    moments.append(time.monotonic())
    await asyncio.sleep(asked.seconds / 2)
    moments.append(time.monotonic())
    before, during, after = (times(client.between(*span)) for span in itertools.pairwise(moments))
    quiet = statistics.mean(one["tpot"] for one in (before, after)) if before and after else 0.0
    vital = look(served.process.pid)
    return {
        "kind": name, "seconds": round(moments[2] - moments[1], 1),
        "statuses": json.loads(told or json.dumps({words_of: 1})), "before": before, "during": during, "after": after,
        "disturbed": disturbed(during.get("tpot"), quiet),
        "resident_bytes": vital.resident_bytes if vital else 0,
    }  # fmt: skip


def disturbed(during: float | None, quiet: float) -> float | None:
    """How much longer a token took; None if nothing was answered in quiet times."""
    if not quiet:
        return None
    return SILENT if during is None else round(during / quiet - 1, 3)


async def rounds(served: ServeProcess, asked: argparse.Namespace) -> tuple[list[dict[str, Any]], Client]:
    """All kinds, again and again."""
    client, found = Client(served), []
    asking = asyncio.create_task(client.run())
    for turn in range(asked.rounds):
        for name in asked.kinds:
            found.append({"round": turn, **await attack(name, served, client, asked, asked.seed + turn)})
            print(json.dumps(found[-1]), flush=True)
    client.stop()
    await asking
    return found, client


def deserved(name: str, status: str) -> bool:
    """Whether a case got a 4xx, or was hung up on after one; a costly schema that can be followed, an answer."""
    return status == "hung up" or status[:1] == "4" or (name == "schemas" and status == "200")


def promises(found: Sequence[dict[str, Any]], client: Client, *, alive: bool) -> dict[str, Promise]:
    """What was promised, and what came."""
    worse = sum(
        count for one in found for status, count in one["statuses"].items() if not deserved(one["kind"], status)
    )
    kept = {
        "the server ended": Promise(not alive, 0),
        "bad input that got no 4xx": Promise(worse, 0),
        "answers that failed": Promise(sum(kind(one) != ANSWERED for one in client.seen), 0),
    }
    for name in dict.fromkeys(one["kind"] for one in found):
        known = [one["disturbed"] for one in found if one["kind"] == name and one["disturbed"] is not None]
        kept[f"time of a token more under {name}"] = Promise(min(known, default=SILENT), DISTURBED)
    return kept


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Everything; its figures, and the promises."""
    with ServeProcess(str(ensure(asked.model).resolve()), "--context", "16384") as served:
        served.begin()
        found, client = asyncio.run(rounds(served, asked))
        kept = promises(found, client, alive=served.running)
        words = "" if served.running else served.last_words()
    return {
        "seconds": asked.seconds, "rounds": asked.rounds, "seed": asked.seed, "attacks": found,
        "answers": len(client.seen), "last words": words, "promises": judge.told_promises(kept),
    }  # fmt: skip


def main() -> None:
    """Run, print, store; status 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of every kind but damaged bodies, which are 10,000"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "hostile.json")
    asked = parser.parse_args()
    result = heading() | run(asked)
    conclude(result, asked.output, result["promises"])


if __name__ == "__main__":
    main()
