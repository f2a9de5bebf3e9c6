"""Lanes: decoding and prefilling in 1, 2, 4 lanes and in as many as the engine finds to pay, over links of any length.

    python bench/lanes.py [--ways shm tcp 0.3 1 3] [--steps 100]

A number is a round trip in milliseconds, between hosts made of network namespaces. The lanes take turns at every step,
and what is printed are ratios of the speed to that of one lane. It writes bench/results/lanes.json.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from fabric.dealt import Asked, Did
from fabric.hosts import BENCH, Network
from fabric.processors import Child, Processor
from stored import heading

LANES = (1, 2, 4, 0)
STREAMS = (1, 2, 4, 8, 16)
PREFILL = 700


class Context(Child):
    """The context process, at `weights`."""

    def __init__(self, weights: str, **options: Any) -> None:
        super().__init__(["-m", "fabric.dealt", weights, ",".join(map(str, LANES))], **options)

    def ask(self, asked: Asked) -> Did:
        """What it took."""
        self.say(msgspec.json.encode(asked).decode())
        assert self.process.stdout
        return msgspec.json.decode(self.process.stdout.readline(), type=Did)


@contextlib.contextmanager
def way(name: str, model: str) -> Iterator[Context]:
    """A context process with a weight processor at a distance."""
    with contextlib.ExitStack() as stack:
        here, listen = subprocess.Popen, "tcp://127.0.0.1:0"
        there: Any = here
        if name == "shm":
            listen = "shm://lanes-bench"
        elif name != "tcp":
            net = stack.enter_context(Network())
            near, far = net.host("context"), net.host("weights")
            net.link("weights", delay_ms=float(name) / 2)
            here, there, listen = near.popen, far.popen, f"tcp://{far.plain}:7070"  # type: ignore[assignment]
        processor = stack.enter_context(Processor(model, listen, start=there))
        processor.start()
        processor.ready()
        context = stack.enter_context(Context(processor.url, start=here))
        context.start()
        context.first_line()
        yield context


def works(steps: int) -> dict[str, Asked]:
    """What is asked for."""
    found = {f"{n} stream{'s' * (n > 1)}": Asked(steps, n) for n in STREAMS}
    return {**found, f"prefill of {PREFILL}": Asked(max(4, steps // 12))}


def row(name: str, work: str, asked: Asked, seconds: dict[int, list[float]]) -> str:
    """One line of the table: the quicker half of all steps counts, as others may have had the machine in the rest."""
    usual = {lanes: statistics.quantiles(times[len(times) // 4 :], n=4)[0] for lanes, times in seconds.items()}
    ratios = " | ".join(f"{usual[1] / usual[lanes]:.2f}" for lanes in LANES[1:])
    return f"| {name} | {work} | {(asked.streams or PREFILL) / usual[1]:.0f} | {ratios} |"


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--ways", nargs="+", default=["shm", "tcp", "0.3", "1", "3"])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output", type=Path, default=BENCH / "results" / "lanes.json")
    asked = parser.parse_args()
    result = heading()
    print("| link | work | one lane, tok/s | 2 lanes | 4 lanes | found out |\n|---|---|---|---|---|---|")
    result["seconds"] = {}
    for name in asked.ways:
        with way(name, asked.model) as context:
            for work, one in works(asked.steps).items():
                answer = context.ask(one)
                result["seconds"].setdefault(name, {})[work] = {
                    lanes: [round(second, 6) for second in seconds] for lanes, seconds in answer.seconds.items()
                }
                print(row(name, work, one, answer.seconds), answer.lanes[0], flush=True)
    asked.output.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
