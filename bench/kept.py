"""What it takes to keep a context and to go on with it, beside the prefill that this saves.

`python bench/kept.py [MODEL]`. Medians of rounds; one process, its default threads, a temporary folder.
"""

import os
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from twofold import LLM, Message
from twofold.config import Settings
from twofold.engine.assemble import open_engine
from twofold.engine.kept import kept
from twofold.store.contexts import Contexts, Quota
from twofold.store.sealed import Sealing
from twofold.units import GIB, MIB, Seconds

TOKENS, ROUNDS = 2000, 5
TEXT = Path(__file__).parents[1] / "docs/numerics.md"


class Nowhere:
    """A sink that keeps nothing."""

    def write(self, data: bytes) -> None:
        """Take `data`."""


def silent(stage: str, done: int, total: int) -> None:
    """A progress that tells nobody."""


def timed(work: Callable[[], object]) -> Seconds:
    """How long `work` takes."""
    start = time.perf_counter()
    work()
    return Seconds(time.perf_counter() - start)


def main(model: str) -> None:
    """Measure and print."""
    figures: dict[str, list[Seconds]] = {"prefill": [], "keep": [], "go on": [], "encrypt": []}
    with tempfile.TemporaryDirectory() as folder, open_engine(model, Settings(), split=False, progress=silent) as ready:
        contexts = Contexts(Path(folder, "contexts"), Quota(64 * GIB))
        tokens = ready.tokenizer.encode(TEXT.read_text())[:TOKENS]

        def go_on() -> None:
            with kept(ready.engine, contexts, "measured", time.time):
                pass

        def prefill() -> None:
            session = ready.engine.open()
            ready.engine.feed(session, tokens)
            ready.engine.close(session)

        figures["prefill"] = [timed(prefill) for _ in range(ROUNDS)]
        for _ in range(ROUNDS):
            with kept(ready.engine, contexts, "measured", time.time) as keeper:
                if keeper.new:
                    ready.engine.feed(keeper.session, tokens)
                figures["keep"].append(timed(keeper.keep))
        figures["go on"] = [timed(go_on) for _ in range(ROUNDS)]
        data = (contexts.folder / "measured.context").read_bytes()
        sealing = Sealing(Nowhere(), "a passphrase")
        figures["encrypt"] = [timed(lambda: sealing.write(data)) for _ in range(ROUNDS)]
    print(f"{model}, {len(tokens)} tokens, {len(data) / MIB:.1f} MiB")
    for name, seconds in figures.items():
        print(f"{name:8} {1e3 * statistics.median(seconds):8.1f} ms")
    part = data[MIB : 9 * MIB]
    spent, left = time.perf_counter(), len(zlib.compress(part, 1))
    print(f"zlib would leave {left / len(part):.0%}, at {len(part) / MIB / (time.perf_counter() - spent):.0f} MiB/s")


def turns(model: str) -> None:
    """Measure and print a second turn of a long conversation: in a context that is kept, and sent whole to who has not
    seen it."""
    spent: dict[str, list[Seconds]] = {"kept": [], "whole": []}
    with LLM(model) as llm:
        shelf = llm.contexts
        text = llm.tokenizer.decode(llm.tokenizer.encode(TEXT.read_text())[: TOKENS - 100])
        for number in range(ROUNDS):
            said = [Message("user", f"{number} {text}")]
            shelf.begin(str(number))
            said.append(Message("assistant", llm.chat(said, context=str(number), max_tokens=8).text))
            spent["kept"].append(timed(lambda: llm.chat("And?", context=str(number), max_tokens=8)))  # noqa: B023
            said = [Message("user", f"{number} anew {text}"), *said[1:], Message("user", "And?")]
            spent["whole"].append(timed(lambda: llm.chat(said, max_tokens=8)))  # noqa: B023
    for name, seconds in spent.items():
        print(f"a second turn of 8 tokens, {name:5} {1e3 * statistics.median(seconds):8.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "smollm2")
    with tempfile.TemporaryDirectory() as data:
        os.environ["XDG_DATA_HOME"] = data  # not among the contexts of who measures
        turns(sys.argv[1] if len(sys.argv) > 1 else "smollm2")
