"""Twofold beside the programs people run instead, interleaved in one run. Let nothing else run meanwhile.

    python bench/compare.py smollm2 --llama-python PATH --openvino-python PATH --openvino-model DIR

Every peer is optional and runs in its own environment; each flag can also come from the environment, as
LLAMA_PYTHON, OPENVINO_PYTHON, OPENVINO_MODEL, VLLM_PYTHON, VLLM_MODEL. In every round each work goes through all
systems in turn. Stored: bench/results/compare-MODEL.json; with --check the exit status is 1 if a bar is missed.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ratios import LIMIT, OURS, QUIET, Row, missed, ratios, spread
from systems import PEERS, Neighbour, Peer, System, seconds_to_first_output

from twofold.engine.machine import stamp
from twofold.errors import ConfigurationError, TwofoldError
from twofold.kernels.native import Native
from twofold.store.catalogue import BY_NAME
from twofold.store.pull import ensure

RESULTS = Path(__file__).resolve().parent / "results"
FLAGS = ("llama-python", "openvino-python", "openvino-model", "vllm-python", "vllm-model")


@dataclass(frozen=True)
class Work:
    """One thing that is measured: what drivers are asked, in which unit they answer, and whether peers take part."""

    name: str
    ask: str
    arguments: Mapping[str, int]
    unit: str = "tokens_per_second"
    alone: bool = False
    disturbed: bool = False


WORKS = (
    Work("decode 1", "decode", {"streams": 1, "tokens": 128}),
    Work("decode 8", "decode", {"streams": 8, "tokens": 64}),
    Work("decode 32", "decode", {"streams": 32, "tokens": 32}),
    Work("prefill 700", "prefill", {"prompt": 700}),
    Work("attention 8192", "attention", {"positions": 8192}, unit="bytes_per_second", alone=True),
    Work("busy neighbour", "decode", {"streams": 1, "tokens": 128}, disturbed=True),
)
START = "start"
NAMES = (*(work.name for work in WORKS), START)


@dataclass
class Taken:
    """What the rounds of one work gave: a value a system, our share of the limit, and the limits beside it."""

    unit: str
    rounds: list[dict[str, float]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    limit: str | None = None
    beside: list[dict[str, float]] = field(default_factory=list)


def turn(work: Work, systems: Sequence[System], taken: Taken) -> None:
    """One round of one work through all systems that take part."""
    values: dict[str, float] = {}
    with Neighbour() if work.disturbed else contextlib.nullcontext():
        for system in systems:
            answer = system.ask(work.ask, **work.arguments)
            values[system.name] = answer[work.unit]
            if system.name == OURS:
                taken.shares.append(answer["share_of_limit"])
                taken.limit = answer["limit"]
                taken.beside.append({k: v for k, v in answer.items() if k.endswith("_per_second") and k != work.unit})
    taken.rounds.append(values)


def start_turn(commands: Mapping[str, Sequence[str]], taken: Taken) -> None:
    """One round of whole processes, from nothing to the first token; the first of all is not counted.

    It warms the caches of the system and of Python's compiled files, which the environment may forbid to write.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(1 if taken.rounds else 2):
        found = {name: seconds_to_first_output(command, environment) for name, command in commands.items()}
    taken.rounds.append(found)


def row_of(name: str, taken: Mapping[str, Taken]) -> Row:
    """All ratios of one work; a disturbed one is also held against our own rate in the same round without it."""
    mine = taken[name]
    row = ratios(mine.rounds, less_is_better=mine.unit == "seconds")
    if mine.shares:
        row[LIMIT] = asdict(spread(mine.shares))
    quiet = taken.get("decode 1")
    if name == "busy neighbour" and quiet:
        pairs = zip(mine.rounds, quiet.rounds, strict=True)
        row[QUIET] = asdict(spread([busy[OURS] / calm[OURS] for busy, calm in pairs]))
    return row


def peers(asked: argparse.Namespace, model: Path) -> list[Peer]:
    """The peers that were named; ConfigurationError for half a peer."""
    found = [Peer(asked.llama_python, "llama_cpp_driver.py", str(model))] if asked.llama_python else []
    for name in ("openvino", "vllm"):
        python, folder = getattr(asked, f"{name}_python"), getattr(asked, f"{name}_model")
        if bool(python) != bool(folder):
            raise ConfigurationError(f"--{name}-python and --{name}-model belong together; give both or neither")
        if python:
            found.append(Peer(python, f"{name}_driver.py", folder))
    return found


def first_token_commands(asked: argparse.Namespace, model: Path) -> dict[str, Sequence[str]]:
    """What a user would type for a first token: the installed command, with the model's chat template.

    llama.cpp goes on with the four tokens of the prompt as they are; the template makes 34 of them.
    """
    threads = str(asked.threads)
    ours = (str(Path(sys.executable).with_name("twofold")), "run", asked.model, "Once upon a time", "--max-tokens", "1")
    commands: dict[str, Sequence[str]] = {OURS: (*ours, "--threads", threads)}
    if asked.llama_python:
        driver = str(PEERS / "llama_cpp_driver.py")
        commands["llama.cpp"] = (asked.llama_python, driver, str(model), threads, "--first")
    return commands


def measure(asked: argparse.Namespace, model: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """All rounds: what was taken, and who took part."""
    works = [work for work in WORKS if work.name in asked.works]
    taken = {work.name: Taken(work.unit) for work in works}
    if START in asked.works:
        taken[START] = Taken("seconds")
    commands = first_token_commands(asked, model)
    with contextlib.ExitStack() as stack:
        systems = []
        for peer in [Peer(sys.executable, "twofold_driver.py", str(model)), *peers(asked, model)]:
            systems.append(stack.enter_context(peer.system(asked.threads)))
            say(f"{systems[-1].name} {systems[-1].identity['version']} is loaded")
        for index in range(asked.rounds):
            for work in works:
                turn(work, systems[:1] if work.alone else systems, taken[work.name])
                say(f"round {index + 1}, {work.name}: {taken[work.name].rounds[-1]}")
            if START in taken:
                start_turn(commands, taken[START])
                say(f"round {index + 1}, {START}: {taken[START].rounds[-1]}")
        return {"systems": [system.identity for system in systems], "taken": taken}


def table(rows: Mapping[str, Row]) -> str:
    """Ratios as Markdown, medians with minimum and maximum."""
    lines = ["| work | ours against | median | minimum | maximum |", "|---|---|---|---|---|"]
    for work, row in rows.items():
        for against, found in row.items():
            cells = " | ".join(f"{found[key]:.2f}" for key in ("median", "minimum", "maximum"))
            lines.append(f"| {work} | {against} | {cells} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line, with the environment behind it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a known name or the path of a .gguf file")
    for flag in FLAGS:
        parser.add_argument(f"--{flag}", default=os.environ.get(flag.upper().replace("-", "_")))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--works", nargs="+", choices=NAMES, default=list(NAMES), metavar="WORK", help=", ".join(NAMES))
    parser.add_argument("--output", type=Path, help="default: bench/results/compare-MODEL.json")
    parser.add_argument("--check", action="store_true", help="exit 1 if a bar of bench/ratios.py is missed")
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error("--rounds must be at least 1")
    return asked


def main() -> int:
    """Measure, print, store, judge."""
    asked = parse()
    backend = Native(threads=asked.threads)
    asked.threads = backend.threads
    machine = stamp(backend.capabilities())
    backend.close()
    path = ensure(asked.model).resolve()
    name = asked.model if asked.model in BY_NAME else path.stem
    found = measure(asked, path, lambda line: print(line, file=sys.stderr, flush=True))
    rows = {work: row_of(work, found["taken"]) for work in found["taken"]}
    works = {work: asdict(taken) | {"ratios": rows[work]} for work, taken in found["taken"].items()}
    result = {"model": name, **machine, "systems": found["systems"], "works": works, "table": table(rows).splitlines()}
    output = asked.output or RESULTS / f"compare-{name}.json"
    output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(rows))
    worse = missed(name, rows, list(rows)) if asked.check else []
    for line in worse:
        print(f"missed: {line}")
    return 1 if worse else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TwofoldError as error:
        sys.exit(f"compare: {error}")
