"""A context process under test: decodes and prefills in a number of lanes that is given, or found out on the way.

    cd bench; python -m fabric.dealt WEIGHTS LANES,LANES,...          # 0: found out on the way

It says `begun`, then answers each line of JSON on standard input with one, until that ends.
"""

import sys
import time

import msgspec
import numpy as np

from twofold.config import Settings
from twofold.engine.assemble import open_engine
from twofold.engine.engine import Engine
from twofold.errors import InternalError
from twofold.store.progress import silent

PROMPT, PREFILL = 12, 700
POSITIONS = 32768  # of context memory


class Asked(msgspec.Struct, frozen=True):
    """Decode `steps` tokens of `streams` together in each number of lanes; or prefill a prompt of 700 as often."""

    steps: int
    streams: int = 0


class Did(msgspec.Struct, frozen=True):
    """Seconds of every step, by lanes, and how many lanes were made so far."""

    seconds: dict[int, list[float]]
    lanes: dict[int, int]


def did(engines: dict[int, Engine], asked: Asked) -> Did:
    """What `asked` took. The engines share one context memory and take turns, so a hiccup of the machine meets all."""
    any_engine = next(iter(engines.values()))
    rng, vocabulary = np.random.default_rng(asked.streams), any_engine.manifest.vocabulary
    seconds: dict[int, list[float]] = {lanes: [] for lanes in engines}
    sessions = [any_engine.open() for _ in range(asked.streams)]
    chosen = [int(any_engine.feed(s, rng.integers(0, vocabulary, PROMPT).tolist())[0].argmax()) for s in sessions]
    for turn in range(asked.steps):
        given = chosen
        prompt = rng.integers(0, vocabulary, PREFILL).tolist()
        came = set()
        for lanes in sorted(engines, key=lambda lanes: (lanes + turn) % len(engines)):
            if sessions:
                for session in sessions:
                    any_engine.rewind(session, PROMPT + turn)
                start = time.perf_counter()
                logits = engines[lanes].decode(sessions, given)
                seconds[lanes].append(time.perf_counter() - start)
                chosen = [int(row.argmax()) for row in logits]
            else:
                session = any_engine.open()
                start = time.perf_counter()
                logits = [engines[lanes].feed(session, prompt)[0]]
                seconds[lanes].append(time.perf_counter() - start)
                any_engine.close(session)
            came.add(b"".join(row.tobytes() for row in logits))
        if len(came) != 1:
            raise InternalError(f"{asked}: lanes gave different logits")
    for session in sessions:
        any_engine.close(session)
    return Did(seconds, {lanes: opened(engine) for lanes, engine in engines.items()})


def opened(engine: Engine) -> int:
    """How many lanes the engine has made."""
    return len(engine._lanes)


def main() -> None:
    """Serve standard input."""
    weights, numbers = sys.argv[1], [int(number) for number in sys.argv[2].split(",")]
    settings = Settings(weights=weights, threads=1, context=POSITIONS)
    with open_engine(None, settings, split=False, progress=silent) as ready:
        first = ready.engine
        engines = {n: Engine(first.weights.another(), first.context, lanes=n or None) for n in numbers}
        print("begun", flush=True)
        for line in sys.stdin:
            asked = msgspec.json.decode(line, type=Asked)
            print(msgspec.json.encode(did(engines, asked)).decode(), flush=True)


if __name__ == "__main__":
    main()
