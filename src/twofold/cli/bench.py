"""`twofold bench`: what this machine can do at most, and what share of it a model reaches."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from twofold.cache.pages import PAGE_POSITIONS
from twofold.cli import options, show
from twofold.config import Settings
from twofold.engine import measure
from twofold.engine.assemble import load_weights, open_checkpoint, open_engine
from twofold.engine.machine import stamp
from twofold.engine.measure import Figure
from twofold.kernels.native import Native
from twofold.model.anatomy import anatomy


class Work(StrEnum):
    """What can be measured."""

    BANDWIDTH = "bandwidth"
    DECODE = "decode"
    PREFILL = "prefill"
    LOAD = "load"


def bench(
    work: Annotated[Work, typer.Argument(help="What to measure; bandwidth needs no model.")],
    model: options.Model = options.DEFAULT_MODEL,
    streams: Annotated[int, typer.Option(min=1, max=32, help="decode: sessions in one batch.")] = 1,
    prompt: Annotated[int, typer.Option(min=1, help="prefill: tokens of the prompt.")] = 700,
    context: Annotated[int, typer.Option(min=1, help="decode: positions each session has seen.")] = 12,
    tokens: Annotated[int, typer.Option(min=1, help="decode: tokens a stream and round.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds; a figure is their median.")] = 5,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Measure, and state each figure as a share of what this machine can do. Let nothing else run meanwhile."""
    settings = options.settings(threads)
    backend = Native(threads=settings.threads, level=settings.vector_level)
    with show.ShownProgress(quiet=json) as progress:
        if work is Work.BANDWIDTH:
            bounds = measure.limits(backend, rounds)
            figures = [bounds.read, bounds.multiply]
        elif work is Work.LOAD:
            figures = [measure.load(lambda: _load(model, backend, progress), rounds)]
        else:
            each = max(prompt, context + tokens) + PAGE_POSITIONS
            room = Settings(settings.threads, settings.vector_level, streams * each)
            figures = _speed(work, model, room, backend, progress, (streams, prompt, context, tokens, rounds))
    _print(figures, backend, json)
    backend.close()


def _speed(
    work: Work, model: str, settings: Settings, backend: Native, progress: show.ShownProgress, asked: tuple[int, ...]
) -> list[Figure]:
    """The figure asked for, and the limits it is measured against."""
    streams, prompt, context, tokens, rounds = asked
    with open_checkpoint(model, progress) as checkpoint:
        parts = anatomy(checkpoint.model, checkpoint.tensor)
    bounds = measure.limits(backend, rounds)
    with open_engine(model, settings, split=False, progress=progress) as ready:
        progress.finish()
        if work is Work.DECODE:
            figure = measure.decode(
                ready.engine, parts, bounds, streams=streams, context=context, tokens=tokens, rounds=rounds
            )
        else:
            figure = measure.prefill(ready.engine, parts, bounds, prompt=prompt, rounds=rounds)
    return [figure, bounds.read, bounds.multiply]


def _load(model: str, backend: Native, progress: show.ShownProgress) -> None:
    with open_checkpoint(model, progress) as checkpoint:
        load_weights(checkpoint, backend, progress).close()


def _print(figures: list[Figure], backend: Native, json: bool) -> None:
    first = figures[0]
    if json:
        head = {first.unit: first.median, "share_of_limit": first.share_of_limit}
        show.write_json(head | stamp(backend.capabilities()) | {"figures": figures})
        return
    table = Table("figure", "median", "minimum", "maximum", "unit", "share of the limit", box=None)
    for figure in figures:
        share = f"{figure.share_of_limit:.2f} of {figure.limit}" if figure.share_of_limit else ""
        values = [f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}" for value in
                  (figure.median, min(figure.rounds), max(figure.rounds))]  # fmt: skip
        table.add_row(figure.what, *values, figure.unit.replace("_per_", "/").replace("_", " "), share)
    show.render(table)
