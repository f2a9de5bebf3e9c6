"""From a model's name to what answers many: the beginning of `twofold serve` and of `twofold.LLM`."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator

from twofold.config import Settings
from twofold.engine.assemble import open_engine
from twofold.engine.serving import Serving, room_of
from twofold.store.progress import Progress
from twofold.units import Seconds

ENDLESS = 1 << 62


@contextlib.contextmanager
def open_serving(
    model: str | None, settings: Settings, *, split: bool, progress: Progress, refusing: bool = True
) -> Iterator[Serving]:
    """Answers by the engine that `open_engine` opens; `settings.max_num_seqs` of them are computed at once.

    `refusing`: raise Overloaded for a request that would have to wait too long, rather than let it wait.
    """
    with open_engine(model, settings, split=split, progress=progress) as ready:
        running = {} if settings.max_num_seqs is None else {"running": settings.max_num_seqs}
        room = room_of(ready.engine, **running)
        if not refusing:
            room = dataclasses.replace(room, waiting=ENDLESS, patience=Seconds(math.inf))
        with Serving(ready.engine, ready.tokenizer, room=room) as serving:
            yield serving
