"""Attack a weight processor over TCP, while a good client goes on and newcomers connect.

    python bench/attack.py [--model smollm2] [--cases 1000000] [--seconds 15] [--rounds 2] [--seed 1]

Every attack (`fabric/assault.py`) comes between two quiet times, and all of them come again in a second round. The
attackers run at the lowest priority, so what the good client loses it loses to the work they cause; of the rounds the
less disturbed one counts, since other programs disturb too. While calls come, a processor takes new connections in a
small share of its time, so the bulk of the cases comes as a flood while the good client is away; `fuzz` is the same
while it is there, for `--seconds`. It writes bench/results/attack.json and ends with status 1 unless the processor
lives, adds no memory and no descriptors from the first round to the last, lets in nobody with a bad token, and the good
client loses no token, no request, and no more than DISTURBED of its rate.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from fabric import judge, keyring
from fabric.judge import Promise
from fabric.load import Load
from fabric.processors import Child, Processor
from fabric.repeated import Repeated
from fabric.streams import expected
from fabric.target import OPTIONS
from fabric.vitals import SLACK_BYTES, SLACK_DESCRIPTORS, Vital, Watch, look
from stored import conclude, heading

from twofold import link
from twofold.errors import LinkError
from twofold.units import MIB, Seconds
from twofold.wire.message import Ping

ROOT = Path(__file__).resolve().parent.parent
TOKENS = 64
DISTURBED = 0.10
NEWCOMER_SECONDS = 0.25  # between two newcomers
CONNECTIONS = {"loris": 500, "crowd": 1000, "half": 200, "unread": 20, "wrong": 1, "tokens": 1, "foreign": 1}
ROUND_BYTES = 4 * SLACK_BYTES  # what a second round may add
MOST_BYTES = 512 * MIB  # what a thousand connections may take for as long as they last


class Newcomers(Repeated):
    """Connects, asks and leaves again and again; how long that took, and how often it failed."""

    def __init__(self, url: str) -> None:
        super().__init__(NEWCOMER_SECONDS)
        self._url = url
        self.seconds: list[float] = []
        self.refused: list[str] = []

    def once(self) -> None:
        """One newcomer."""
        start = time.monotonic()
        try:
            connection = link.connect(self._url)
            connection.ask(Ping(), Seconds(5.0))
            connection.close()
        except LinkError as error:
            self.refused.append(str(error))
        else:
            self.seconds.append(time.monotonic() - start)


def low(command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    """Start a process at the lowest priority."""
    return subprocess.Popen(["nice", "-n", "19", *command], **options)


def assault(kind: str, processor: Processor, keys: dict[str, str], *, amount: float, seed: int) -> dict[str, Any]:
    """What an attacker says it did. `keys`: the environment that makes a process the attacker's."""
    words = ["-m", "fabric.assault", kind, ",".join(processor.urls), str(seed), str(amount)]
    with Child([*words, str(CONNECTIONS.get(kind, 1))], start=low, environment=keys) as attacker:
        attacker.start()
        counts, _ = attacker.process.communicate()
        did: dict[str, Any] = json.loads(counts) if counts else {"failed": attacker.last_words()}
        return did


def attack(
    kind: str, processor: Processor, load: Load, keys: dict[str, str], *, seconds: float, seed: int
) -> dict[str, Any]:
    """One attack between two quiet times: what was done, what it cost, and how the processor is afterwards."""
    moments = [time.monotonic()]

    def passed() -> None:
        moments.append(time.monotonic())

    time.sleep(seconds / 2)
    passed()
    with Newcomers(processor.url) as newcomers, Watch() as watch:
        watch.add(kind, processor.process.pid)
        did = assault(kind, processor, keys, amount=seconds, seed=seed)
        passed()
    time.sleep(seconds / 2)
    passed()
    before, during, after = (load.rate(*span) for span in itertools.pairwise(moments))
    return {
        "kind": kind, "seconds": round(moments[2] - moments[1], 1), "did": did,
        "tokens a second": [round(rate, 1) for rate in (before, during, after)],
        "disturbed": round(1 - 2 * during / (before + after), 3) if before + after else 1.0,
        "newcomers": {"welcome": len(newcomers.seconds), "refused": len(newcomers.refused),
                      "slowest_ms": round(1000 * max(newcomers.seconds, default=0.0)), "why": newcomers.refused[:1]},
        "most_resident_bytes": max((one.resident_bytes for seen in watch.samples.values() for one in seen), default=0),
    }  # fmt: skip


@contextlib.contextmanager
def besieged(model: str, folder: Path) -> Iterator[Processor]:
    """A processor that asks for tokens, which lie in `folder`; this process becomes one of the good client's host."""
    keyring.grant_all(folder)
    server = keyring.environment(folder, keyring.SERVER)
    with Processor(model, "tcp://127.0.0.1:0", *OPTIONS, environment=server) as processor:
        processor.start()
        processor.ready()
        keyring.join(folder, processor.place)
        os.environ.update(keyring.environment(folder, keyring.GOOD))
        yield processor


def flood(processor: Processor, keys: dict[str, str], *, cases: float, seed: int) -> dict[str, Any]:
    """So many cases of the fuzzer, while nobody calls."""
    start = time.monotonic()
    did = assault("flood", processor, keys, amount=cases, seed=seed)
    seconds = time.monotonic() - start
    return {"kind": "flood", "seconds": round(seconds, 1), "did": did, "cases a second": round(cases / seconds)}


class Rounds:
    """All attacks, again and again, and what came of them."""

    def __init__(self, asked: argparse.Namespace, tokens: list[list[int]]) -> None:
        self._asked, self._tokens = asked, tokens
        self.found: list[dict[str, Any]] = []
        self.vitals: list[Vital] = []  # of the processor after each round
        self.counts: list[judge.Counts] = []  # of the good client in each

    def play(self, processor: Processor, keys: dict[str, str]) -> None:
        """All rounds, or until the processor is dead."""
        for turn in range(self._asked.rounds):
            seed = self._asked.seed + turn
            self._add(turn, flood(processor, keys, cases=self._asked.cases / self._asked.rounds, seed=seed))
            with Load(processor.url, streams=1, tokens=TOKENS) as load:
                load.begin()
                for kind in ("fuzz", *CONNECTIONS):
                    self._add(turn, attack(kind, processor, load, keys, seconds=self._asked.seconds, seed=seed))
                load.finish()
            self.counts.append(judge.count(load.told, self._tokens))
            seen = look(processor.process.pid)
            if seen is None:
                break
            self.vitals.append(seen)

    def _add(self, turn: int, one: dict[str, Any]) -> None:
        self.found.append({"round": turn, **one})
        print(json.dumps(self.found[-1]), flush=True)


def promises(played: Rounds, *, alive: bool) -> dict[str, Promise]:
    """What was promised, and what came."""
    found, vitals = played.found, played.vitals
    kept = {
        "crashes": Promise(not alive, 0),
        "wrong tokens": Promise(sum(counts.wrong for counts in played.counts), 0),
        "lost or hung requests": Promise(sum(counts.lost + counts.hung for counts in played.counts), 0),
        "attacks that did not take place": Promise(sum("failed" in one["did"] for one in found), 0),
        "bad tokens let in": Promise(sum(one["did"].get("let in", 0) for one in found), 0),
        "connections left open by the fuzzer": Promise(sum(one["did"].get("unended", 0) for one in found), 0),
    }
    for kind in ("fuzz", *CONNECTIONS):
        kept[f"disturbed by {kind}"] = Promise(min(one["disturbed"] for one in found if one["kind"] == kind), DISTURBED)
    if vitals:
        most = max(one.get("most_resident_bytes", 0) for one in found)
        kept["more bytes under attack"] = Promise(most - vitals[0].resident_bytes, MOST_BYTES)
    if len(vitals) > 1:
        kept["bytes more after the last round"] = Promise(
            vitals[-1].resident_bytes - vitals[0].resident_bytes, ROUND_BYTES
        )
        kept["descriptors more after the last round"] = Promise(
            vitals[-1].descriptors - vitals[0].descriptors, SLACK_DESCRIPTORS
        )
    return kept


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Everything; its figures, and the promises."""
    tokens = expected(asked.model, TOKENS)
    with tempfile.TemporaryDirectory() as name, besieged(asked.model, Path(name)) as processor:
        keys = keyring.environment(Path(name), keyring.ATTACKER)
        played = Rounds(asked, tokens)
        played.play(processor, keys)
        alive = processor.running
        words = "" if alive else processor.last_words()
    return {
        "cases": asked.cases, "seed": asked.seed, "counts": msgspec.to_builtins(played.counts),
        "attacks": played.found, "vitals": [one._asdict() for one in played.vitals], "last words": words,
        "promises": judge.told_promises(promises(played, alive=alive)),
    }  # fmt: skip


def main() -> None:
    """Run, print, store; status 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--cases", type=int, default=1_000_000, help="frames of the flood, over all rounds")
    parser.add_argument("--seconds", type=float, default=15.0, help="of every other attack")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "attack.json")
    asked = parser.parse_args()
    result = heading() | run(asked)
    conclude(result, asked.output, result["promises"])


if __name__ == "__main__":
    main()
