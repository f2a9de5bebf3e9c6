"""One weight processor, many owners: N context processes of their own on it, against one process that batches itself.

    python bench/owners.py [--owners 1 2 4 8 16] [--seconds 3] [--rounds 5] [--link shm|tcp]

The rate of all owners together must grow until the weight side has no more to give and then stay, at 8 it must be 0.7
of what one process gets that decodes 8 streams in one batch, and no owner's share may be 20 % from the fair one.
Stored: bench/results/owners.json. Let nothing else run meanwhile.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from systems import PEERS, System

from twofold.engine.machine import stamp
from twofold.kernels.native import Native, physical_cores
from twofold.processor.spawn import SpawnedWeights, weights_command
from twofold.store.progress import silent
from twofold.store.pull import ensure

HERE = Path(__file__).resolve().parent
TOKENS = 64
Row = dict[str, Any]


class Owner:
    """A child that decodes when told to."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "owner.py"), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def begin(self, seconds: float) -> None:
        """Decode for so long."""
        assert self._process.stdin
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """What it did."""
        assert self._process.stdout
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def together(owners: list[Owner], seconds: float) -> list[dict[str, Any]]:
    """What each of `owners` did while all decoded."""
    for owner in owners:
        owner.begin(seconds)
    return [owner.end() for owner in owners]


def measured(command: list[str], alone: System, asked: argparse.Namespace) -> tuple[list[float], dict[int, Row]]:
    """Of every round: the rate of one process with 8 streams, and what each number of owners did."""
    rows: dict[int, Row] = {count: {"rates": [], "shares": []} for count in asked.owners}
    whole: list[float] = []
    with SpawnedWeights(command) as child, contextlib.ExitStack() as stack:
        owners: list[Owner] = []
        for _ in range(max(asked.owners)):
            owners.append(Owner(child.url))
            stack.callback(owners[-1].close)
        for number in range(asked.rounds):
            whole.append(alone.ask("decode", streams=8, tokens=TOKENS)["tokens_per_second"])
            for count in asked.owners:
                did = together(owners[:count], asked.seconds)
                assert len({tuple(answer["first"]) for answer in did}) == 1, "owners got different tokens"
                rates = [answer["tokens_per_second"] for answer in did]
                fair = sum(rates) / count
                rows[count]["rates"].append(sum(rates))
                rows[count]["shares"].append([min(rates) / fair, max(rates) / fair])
            print(f"round {number + 1}: alone {whole[-1]:.0f},", {n: round(r["rates"][-1]) for n, r in rows.items()})
    return whole, rows


def conclude(whole: list[float], rows: dict[int, Row]) -> None:
    """Add the medians to `rows`, and print them."""
    print("| owners | tokens/s | of one process with 8 streams | least and largest share of the fair one |")
    print("|---|---|---|---|")
    for count, row in rows.items():
        row["median"] = statistics.median(row["rates"])
        row["of_one_process"] = statistics.median(r / w for r, w in zip(row["rates"], whole, strict=True))
        low, high = (statistics.median(share[i] for share in row["shares"]) for i in (0, 1))
        print(f"| {count} | {row['median']:.0f} | {row['of_one_process']:.2f} | {low:.2f}, {high:.2f} |")


def main() -> None:
    """Measure, print a table, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--owners", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--link", choices=("shm", "tcp"), default="shm")
    parser.add_argument("--model", default="smollm2")
    asked = parser.parse_args()
    path = ensure(asked.model, silent)
    listen = "tcp://127.0.0.1:0" if asked.link == "tcp" else None
    driver = [sys.executable, str(PEERS / "twofold_driver.py"), str(path), str(physical_cores())]
    with System(driver) as alone:
        whole, rows = measured(weights_command(path, listen=listen, threads=physical_cores()), alone, asked)
    conclude(whole, rows)
    result = {
        "model": asked.model,
        "link": asked.link,
        **stamp(Native().capabilities()),
        "one_process": statistics.median(whole),
        "one_process_rounds": whole,
        "owners": rows,
    }
    name = "owners.json" if asked.link == "shm" else f"owners-{asked.link}.json"
    (HERE / "results" / name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
