"""`twofold bench`: what this machine can do at most, and what share of it kernels and a model reach."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from twofold.cache.pages import PAGE_POSITIONS
from twofold.cli import drawn, options, show
from twofold.config import Settings, read_settings
from twofold.engine import measure, measure_kernels
from twofold.engine.assemble import load_weights, open_checkpoint, open_engine
from twofold.engine.machine import stamp
from twofold.engine.measure import Figure
from twofold.engine.measure_kernels import Shape
from twofold.kernels.native import Native
from twofold.model.anatomy import anatomy
from twofold.model.format import FORMATS
from twofold.store.catalogue import DEFAULT_MODEL


class Work(StrEnum):
    """What can be measured."""

    BANDWIDTH = "bandwidth"
    KERNELS = "kernels"
    DECODE = "decode"
    PREFILL = "prefill"
    LOAD = "load"


CONTEXT = {Work.KERNELS: 8192, Work.DECODE: 12}  # positions, unless told


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for on the command line, defaults filled in."""

    work: Work
    model: str
    streams: int
    prompt: int
    context: int
    tokens: int
    shape: Shape
    rounds: int

    @property
    def positions(self) -> int:
        """Positions of context memory that the work needs."""
        return self.streams * (max(self.prompt, self.context + self.tokens) + PAGE_POSITIONS)


def bench(
    work: Annotated[Work, typer.Argument(help="What to measure; bandwidth and kernels need no model.")],
    model: options.Model = DEFAULT_MODEL,
    streams: Annotated[int, typer.Option(min=1, max=32, help="decode: sessions in one batch.")] = 1,
    prompt: Annotated[int, typer.Option(min=1, help="prefill: tokens of the prompt.")] = 700,
    context: Annotated[
        int | None,
        typer.Option(min=1, help="Positions: decode, those each session has seen [12]; kernels, attended to [8192]."),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="decode: tokens a stream and round.")] = 128,
    outputs: Annotated[int, typer.Option(min=16, help="kernels: rows of the weight matrix.")] = Shape.outputs,
    inputs: Annotated[int, typer.Option(min=256, help="kernels: its columns, a multiple of 256.")] = Shape.inputs,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds; a figure is their median.")] = 5,
    weights: options.Weights = None,
    map_file: options.Map = None,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Measure, and state each figure as a share of what this machine can do. Let nothing else run meanwhile."""
    settings = options.placed(read_settings(threads=threads, weights=weights, map=map_file), split=False)
    asked = Asked(
        work=work, model=model, streams=streams, prompt=prompt, context=context or CONTEXT.get(work, 1),
        tokens=tokens, shape=Shape(outputs, options.multiple("--inputs", inputs, 256)), rounds=rounds,
    )  # fmt: skip
    backend = Native(threads=settings.threads, level=settings.vector_level)
    with show.ShownProgress(quiet=json) as progress:
        figures = _measured(asked, settings, backend, progress)
    _print(figures, backend, json)
    backend.close()


def _measured(asked: Asked, settings: Settings, backend: Native, progress: show.ShownProgress) -> list[Figure]:
    match asked.work:
        case Work.BANDWIDTH:
            bounds = measure.limits(backend, asked.rounds)
            return [bounds.read, bounds.multiply]
        case Work.KERNELS:
            return _kernels(asked, backend)
        case Work.LOAD:
            return [measure.load(lambda: _load(asked.model, backend, progress), asked.rounds)]
        case _:
            return _speed(asked, settings, backend, progress)


def _kernels(asked: Asked, backend: Native) -> list[Figure]:
    """Every format at every number of rows, attention, and the limits they are measured against."""
    bounds = measure.limits(backend, asked.rounds)
    figures = [
        figure
        for kind in FORMATS
        for figure in measure_kernels.linear(backend, bounds, kind, asked.shape, rounds=asked.rounds)
    ]
    heads = measure_kernels.grouped_heads(asked.context)
    figures.append(measure_kernels.attention(heads, backend, bounds, context=asked.context, rounds=asked.rounds))
    return [*figures, bounds.read, bounds.multiply]


def _speed(asked: Asked, settings: Settings, backend: Native, progress: show.ShownProgress) -> list[Figure]:
    """The figure asked for, and the limits it is measured against."""
    with open_checkpoint(asked.model, progress) as checkpoint:
        parts = anatomy(checkpoint.model, checkpoint.tensor)
    bounds = measure.limits(backend, asked.rounds)
    room = msgspec.structs.replace(settings, context=asked.positions)
    with open_engine(asked.model, room, split=False, progress=progress) as ready:
        progress.finish()
        if asked.work is Work.PREFILL:
            figure = measure.prefill(ready.engine, parts, bounds, prompt=asked.prompt, rounds=asked.rounds)
        else:
            figure = measure.decode(
                ready.engine, parts, bounds,
                streams=asked.streams, context=asked.context, tokens=asked.tokens, rounds=asked.rounds,
            )  # fmt: skip
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
    table = Table("figure", "median", "minimum", "maximum", "share of the limit", box=None)
    for figure in figures:
        share = f"{figure.share_of_limit:.2f} of {figure.limit}" if figure.share_of_limit else ""
        values = (figure.median, min(figure.rounds), max(figure.rounds))
        table.add_row(figure.what, *(show.quantity(value, figure.unit) for value in values), share)
    drawn.render(table)
