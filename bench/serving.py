"""`twofold serve` under load beside `vllm serve` and OpenVINO GenAI's continuous batching, in turns of one run.

    python bench/serving.py [--model smollm2] [--levels 1,8,32,64] [--rounds 5] [--check] [--output FILE]

Peers are optional, each in an environment of its own: VLLM_PYTHON and VLLM_MODEL, OPENVINO_PYTHON and OPENVINO_MODEL,
or flags of these names. At a level of N at most N requests are under way; they arrive by a Poisson process faster than
anybody answers, so that N are under way but for the end. In a round every level goes through all systems in turn, with
the same requests, which nobody has seen before; the systems take turns in being first. TTFT counts from when a
request was sent. `twofold, Python` is the same work through `twofold.LLM`, so that HTTP's part can be told.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ratios import BEST, OURS, Bar, Row, ratios, spread
from systems import PEERS, System
from traffic.figures import Figures, Timing, figures
from traffic.work import Mix, requests

from twofold import __version__
from twofold.engine.machine import stamp
from twofold.errors import ConfigurationError, TwofoldError
from twofold.kernels.native import Native
from twofold.store.pull import ensure

RESULTS = Path(__file__).resolve().parent / "results"
FLAGS = ("vllm-python", "vllm-model", "openvino-python", "openvino-model")
COUNTS = {1: 4, 8: 16, 32: 48, 64: 80}  # requests of a turn by level
ARRIVALS_PER_SECOND = 50.0
CONTEXT, SEQUENCES = 65_536, 64
VLLM_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
}  # fmt: skip
VLLM_SERVE = (
    "vllm.entrypoints.openai.api_server"  # what `vllm serve` runs; the CPU's package cannot run the verb itself
)
PYTHON = "twofold, Python"
BARS = {
    "tokens_per_second": (Bar("32", BEST, 1.7), *(Bar(str(level), PYTHON, 0.95) for level in COUNTS)),
    "ttft_p99": tuple(Bar(str(level), BEST, most=1.0) for level in COUNTS),
}


def free_port() -> int:
    """One that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def served(name: str, version: str, model: str, port: int, command: Sequence[str]) -> System:
    """A server behind a client of its own."""
    return System((sys.executable, str(PEERS / "http_driver.py"), name, version, model, str(port), *command))


def systems(asked: argparse.Namespace, model: Path) -> list[System]:
    """Ours over HTTP and from Python, and the peers that were named; ConfigurationError for half a peer."""
    port, name = free_port(), model.stem
    ours = (sys.executable, "-m", "twofold", "serve", str(model), "--port", str(port), "--context", str(CONTEXT))
    found = [served(OURS, __version__, name, port, (*ours, "--max-num-seqs", str(SEQUENCES)))]
    python = str(PEERS / "python_driver.py")
    found.append(System((sys.executable, python, str(model), str(CONTEXT), str(SEQUENCES))))
    for peer in ("vllm", "openvino"):
        if bool(getattr(asked, f"{peer}_python")) != bool(getattr(asked, f"{peer}_model")):
            raise ConfigurationError(f"--{peer}-python and --{peer}-model belong together; give both or neither")
    if asked.vllm_python:
        port = free_port()
        words = ("env", *(f"{key}={value}" for key, value in VLLM_ENVIRONMENT.items()), asked.vllm_python, "-m")
        options = ("--model", asked.vllm_model, "--served-model-name", name, "--port", str(port), "--host", "127.0.0.1")
        sizes = ("--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs", str(SEQUENCES))
        found.append(served("vLLM", "CPU, bf16", name, port, (*words, VLLM_SERVE, *options, *sizes)))
    if asked.openvino_python:
        driver = str(PEERS / "openvino_serving.py")
        found.append(System((asked.openvino_python, driver, asked.openvino_model, str(asked.threads), str(SEQUENCES))))
    return found


def turn(system: System, seed: int, level: int) -> list[Timing]:
    """One system's answers to the requests of a turn."""
    asked = requests(seed, COUNTS.get(level, 2 * level), ARRIVALS_PER_SECOND, Mix())
    return [Timing(*one) for one in system.ask("load", requests=asked, most=level)["timings"]]


Taken = dict[int, list[dict[str, list[Timing]]]]  # by level, of each round, by system


def measure(asked: argparse.Namespace, model: Path) -> tuple[Taken, list[dict[str, Any]]]:
    """All rounds, and who took part."""
    taken: Taken = {level: [] for level in asked.levels}
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(system) for system in systems(asked, model)]
        for system in running:
            turn(system, -1, 8)
            say(start, f"{system.name} {system.identity['version']} is loaded and warm")
        for index in range(asked.rounds):
            order = running[index % len(running) :] + running[: index % len(running)]
            for place, level in enumerate(asked.levels):
                seed = (asked.seed * 1000 + index) * 10 + place
                taken[level].append({system.name: turn(system, seed, level) for system in order})
                rates = {name: round(figures(one).tokens_per_second) for name, one in taken[level][-1].items()}
                say(start, f"round {index + 1}, {level} at once, tokens a second: {rates}")
        return taken, [system.identity for system in running]


def say(start: float, line: str) -> None:
    """Progress."""
    print(f"{time.monotonic() - start:6.0f} s  {line}", file=sys.stderr, flush=True)


def of_rounds(rounds: Sequence[Mapping[str, list[Timing]]]) -> dict[str, dict[str, float]]:
    """By system the medians over rounds; tails are of all requests of all rounds, of which there are more."""
    found = {}
    for name in rounds[0]:
        each = [figures(one[name]) for one in rounds]
        medians = {field: statistics.median(getattr(one, field) for one in each) for field in Figures._fields}
        pooled = figures([timing for one in rounds for timing in one[name]])
        found[name] = medians | {"ttft_p99": pooled.ttft_p99, "tpot_p99": pooled.tpot_p99}
    return found


def rows_of(taken: Taken, field: str) -> dict[str, Row]:
    """By level ours over each peer and the best of them, formed inside rounds; and over our own from Python."""
    rows = {}
    for level, rounds in taken.items():
        values = [{name: getattr(figures(one), field) for name, one in each.items()} for each in rounds]
        python = [each[OURS] / each.pop(PYTHON) for each in values]
        rows[str(level)] = ratios(values, less_is_better=field != "tokens_per_second")
        rows[str(level)][PYTHON] = asdict(spread(python))
    return rows


def tables(figures_of: Mapping[str, Mapping[str, Mapping[str, float]]], rows: Mapping[str, Mapping[str, Row]]) -> str:
    """Figures and ratios as Markdown."""
    lines = ["| at once | system | tokens/s | TTFT p50, p99, ms | TPOT p50, p99, ms |", "|---|---|---|---|---|"]
    for level, systems_ in figures_of.items():
        for name, one in systems_.items():
            ttft, tpot = (f"{one[f'{field}_p50']:.1f}, {one[f'{field}_p99']:.1f}" for field in ("ttft", "tpot"))
            lines.append(f"| {level} | {name} | {one['tokens_per_second']:.0f} | {ttft} | {tpot} |")
    lines += ["", "| of | at once | ours against | median | minimum | maximum |", "|---|---|---|---|---|---|"]
    for field, levels in rows.items():
        for level, row in levels.items():
            for against, found in row.items():
                cells = " | ".join(f"{found[key]:.2f}" for key in ("median", "minimum", "maximum"))
                lines.append(f"| {field} | {level} | {against} | {cells} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line, with the environment behind it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="a known name or the path of a .gguf file")
    for flag in FLAGS:
        parser.add_argument(f"--{flag}", default=os.environ.get(flag.upper().replace("-", "_")))
    parser.add_argument("--levels", type=lambda text: [int(one) for one in text.split(",")], default=list(COUNTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of OpenVINO; default: as many as ours")
    parser.add_argument("--output", type=Path, default=RESULTS / "serving.json")
    parser.add_argument("--check", action="store_true", help="exit 1 if a bar is missed")
    return parser.parse_args()


def main() -> int:
    """Measure, print, store, judge."""
    asked = parse()
    backend = Native()
    asked.threads = asked.threads or backend.threads
    machine = stamp(backend.capabilities())
    backend.close()
    model = ensure(asked.model).resolve()
    taken, identities = measure(asked, model)
    figures_of = {str(level): of_rounds(rounds) for level, rounds in taken.items()}
    rows = {field: rows_of(taken, field) for field in ("tokens_per_second", "ttft_p99")}
    told = tables(figures_of, rows)
    judged = [
        (field, bar.missed(rows[field])) for field, bars in BARS.items() for bar in bars if bar.work in rows[field]
    ]
    worse = [f"{field} at {line}" for field, line in judged if line]
    result = {
        "command": " ".join(["python", *sys.argv]), **machine, "systems": identities, "mix": Mix()._asdict(),
        "requests": {str(level): COUNTS.get(level, 2 * level) for level in taken},
        "rounds": asked.rounds, "seed": asked.seed,
        "arrivals_per_second": ARRIVALS_PER_SECOND, "figures": figures_of, "ratios": rows, "missed": worse,
        "table": told.splitlines(),
        "of_rounds": {
            str(level): [{name: figures(one)._asdict() for name, one in each.items()} for each in rounds]
            for level, rounds in taken.items()
        },
    }  # fmt: skip
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(told)
    for line in worse:
        print(f"missed: {line}")
    return 1 if worse and asked.check else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TwofoldError as error:
        sys.exit(f"serving: {error}")
