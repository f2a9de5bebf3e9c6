"""Time a token over hosts of increasing distance, beside what it must at least take.

    python bench/rtt.py [--model smollm2] [--milliseconds 0.3 1 3 20] [--mbit 500]

    bound = compute + round trips × round trip time + bytes / rate

Compute is measured with both memories in one process, one thread; round trip time and rate over the same cable as the
tokens, by a program that echoes. It writes bench/results/rtt.json and ends with status 1 if a token takes more than
LIMIT times the bound. `python bench/plot_rtt.py` draws it.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fabric.hosts import BENCH, Host, Network
from fabric.load import Load
from fabric.processors import Processor
from fabric.streams import POSITIONS, generate
from stored import heading, store

from twofold.config import Settings
from twofold.engine.assemble import open_engine
from twofold.model.manifest import Manifest
from twofold.store.progress import silent
from twofold.wire.frame import HEADER_BYTES

LIMIT = 1.1
TOKENS = 16  # of a request
REQUESTS = 3  # measured at each distance; the first of a stream warms up
ECHO, ECHO_PORT = BENCH / "fabric" / "echo.py", 7
LARGE_BYTES = 400_000


def crossings(manifest: Manifest) -> tuple[int, int]:
    """Round trips of a token, and the bytes that cross for it."""
    trips = len(manifest.layers) + 1
    planes = sum(plane.row_bytes for cut in manifest.cuts[:trips] for plane in (*cut.takes, *cut.gives))
    return trips, planes + 2 * trips * HEADER_BYTES


def compute_ms(model: str) -> tuple[float, Manifest]:
    """A token with both memories in this process, one thread: the median in milliseconds; and the manifest."""
    with open_engine(model, Settings(threads=1, context=POSITIONS), split=False, progress=silent) as ready:
        moments = [time.perf_counter() for _ in generate(ready.engine, 0, 8 * TOKENS)]
        return median_gap_ms(moments[TOKENS:]), ready.engine.manifest


def median_gap_ms(moments: list[float]) -> float:
    """Of neighbouring moments in seconds."""
    return 1000 * statistics.median(end - start for start, end in itertools.pairwise(moments))


def echo_ms(here: Host, there: Host, size_bytes: int, count: int) -> float:
    """The median round trip of so many bytes."""
    words: list[str | Path] = [
        sys.executable,
        ECHO,
        "measure",
        there.plain,
        str(ECHO_PORT),
        str(count),
        str(size_bytes),
        "10",
    ]
    times: list[float] = json.loads(here.run(words).stdout)
    return statistics.median(times)


def distance(net: Network, here: Host, there: Host, wanted_ms: float, mbit: float) -> dict[str, float]:
    """Make the round trip take `wanted_ms`, the machine's own time included, and measure it and the rate."""
    delay_ms = wanted_ms / 2
    net.link(there.name, delay_ms=delay_ms, rate_mbit=mbit)
    delay_ms = max(delay_ms - (echo_ms(here, there, 64, 50) - wanted_ms) / 2, 0.0)
    net.link(there.name, delay_ms=delay_ms, rate_mbit=mbit)
    trip_ms = echo_ms(here, there, 64, 100)
    large_ms = echo_ms(here, there, LARGE_BYTES, 10) - trip_ms
    return {"wanted_ms": wanted_ms, "delay_ms": delay_ms, "rtt_ms": trip_ms, "bytes_a_ms": 2 * LARGE_BYTES / large_ms}


def token_ms(weights: str, here: Host) -> float:
    """The median time of a token of one stream."""
    with Load(weights, streams=1, tokens=TOKENS, start=here.popen) as load:
        load.begin()
        while load.requests < REQUESTS + 1:
            time.sleep(0.05)
        load.finish()
        return statistics.median(
            median_gap_ms([one.at for one in load.told if one.request == request]) for request in range(1, REQUESTS + 1)
        )


def measure(model: str, wanted: list[float], mbit: float) -> dict[str, Any]:
    """The curve."""
    curve: list[dict[str, float]] = []
    with Network() as net:
        here, there = net.host("context"), net.host("weights")
        with Processor(model, f"tcp://{there.plain}:7070", start=there.popen) as processor:
            processor.start()
            processor.ready()
            echo = there.popen([sys.executable, ECHO, "serve", str(ECHO_PORT)], stdout=subprocess.PIPE)
            assert echo.stdout
            echo.stdout.readline()
            for milliseconds in wanted:
                at = distance(net, here, there, milliseconds, mbit)
                compute, manifest = compute_ms(model)
                trips, size_bytes = crossings(manifest)
                bound = compute + trips * at["rtt_ms"] + size_bytes / at["bytes_a_ms"]
                token = token_ms(processor.url, here)
                curve.append(
                    {**at, "compute_ms": compute, "bound_ms": bound, "token_ms": token, "ratio": token / bound}
                )
                print({name: round(value, 3) for name, value in curve[-1].items()}, flush=True)
            echo.stdout.close()
    return {
        "model": model,
        "round trips": trips,
        "bytes a token": size_bytes,
        "mbit": mbit,
        "limit": LIMIT,
        "curve": curve,
    }


def main() -> None:
    """Measure, store; status 1 if a token takes too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[0.3, 1.0, 3.0, 20.0])
    parser.add_argument("--mbit", type=float, default=500.0)
    parser.add_argument("--output", type=Path, default=BENCH / "results" / "rtt.json")
    asked = parser.parse_args()
    result = heading() | measure(asked.model, asked.milliseconds, asked.mbit)
    store(result, asked.output)
    sys.exit(any(point["ratio"] > LIMIT for point in result["curve"]))


if __name__ == "__main__":
    main()
