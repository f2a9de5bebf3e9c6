"""Twofold itself, for bench/compare.py: as the other drivers, with the limits of the machine beside each figure.

    python bench/peers/twofold_driver.py MODEL THREADS    serves requests (protocol.py)

Each answer also has `share_of_limit`, its `limit`, and both limits as measured right before the work.
"""

import contextlib
import sys
from collections.abc import Iterator

from protocol import answers, serve

from twofold import __version__
from twofold.cache.pages import PAGE_POSITIONS
from twofold.config import Settings
from twofold.engine import measure, measure_kernels
from twofold.engine.assemble import Ready, open_checkpoint, open_engine
from twofold.engine.measure import Figure, Limits
from twofold.kernels.native import Native
from twofold.model.anatomy import Anatomy, anatomy
from twofold.store.progress import silent

PROMPT, STREAMS, LONGEST = 12, 32, 1024
LIMIT_ROUNDS = 3
Answer = dict[str, object]


class Model:
    """An engine, the model's anatomy, and a backend that measures the machine."""

    def __init__(self, ready: Ready, parts: Anatomy, backend: Native) -> None:
        self.engine, self.parts, self.backend = ready.engine, parts, backend

    def decode(self, streams: int, tokens: int) -> Answer:
        """Tokens a second of all streams together."""
        bounds = self._bounds()
        figure = measure.decode(
            self.engine, self.parts, bounds, streams=streams, context=PROMPT, tokens=tokens, rounds=1
        )
        return answer(figure, bounds)

    def prefill(self, prompt: int) -> Answer:
        """Prompt tokens a second until the logits of the last are there."""
        bounds = self._bounds()
        return answer(measure.prefill(self.engine, self.parts, bounds, prompt=prompt, rounds=1), bounds)

    def attention(self, positions: int) -> Answer:
        """Bytes of KV cache a second that one row at that position reads, in this model's layers."""
        bounds = self._bounds()
        manifest = self.engine.manifest
        return answer(measure_kernels.attention(manifest, self.backend, bounds, context=positions, rounds=5), bounds)

    def _bounds(self) -> Limits:
        return measure.limits(self.backend, LIMIT_ROUNDS)


def answer(figure: Figure, bounds: Limits) -> Answer:
    """A figure as the one line that is said."""
    return {
        figure.unit: figure.median,
        "share_of_limit": figure.share_of_limit,
        "limit": figure.limit,
        "read_bytes_per_second": bounds.read.median,
        "multiplications_per_second": bounds.multiply.median,
    }


@contextlib.contextmanager
def opened(name: str, threads: int) -> Iterator[Model]:
    """The model by its catalogue name or path."""
    with open_checkpoint(name, silent) as checkpoint:
        parts = anatomy(checkpoint.model, checkpoint.tensor)
    settings = Settings(threads=threads, context=STREAMS * (PROMPT + PAGE_POSITIONS + LONGEST))
    backend = Native(threads=threads)
    with open_engine(name, settings, split=False, progress=silent) as ready:
        yield Model(ready, parts, backend)
    backend.close()


def main() -> None:
    """Serve."""
    say = answers()
    with opened(sys.argv[1], int(sys.argv[2])) as model:
        totals = model.parts.totals
        identity = {
            "system": "twofold",
            "version": __version__,
            "read_bytes_per_token": totals.read_bytes_per_token,
            "multiplications_per_token": totals.multiplications_per_token,
        }
        serve(say, identity, {"decode": model.decode, "prefill": model.prefill, "attention": model.attention})


if __name__ == "__main__":
    main()
