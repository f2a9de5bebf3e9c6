"""`twofold inspect`: the cut of a model as a table."""

import os
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from twofold.cli import drawn, options, show
from twofold.engine.assemble import open_checkpoint
from twofold.errors import one_line
from twofold.model.anatomy import Anatomy, LayerRow, SegmentRow, anatomy
from twofold.model.checkpoint import Checkpoint
from twofold.model.hub.bare import BareConfig, bare_config
from twofold.model.segment import Plane
from twofold.store.catalogue import DEFAULT_MODEL
from twofold.store.progress import Progress
from twofold.units import bytes_text

Inspected = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A known name, a .gguf file, a checkpoint directory, or a config.json alone."),
]


def inspect(model: Inspected = DEFAULT_MODEL, json: options.Json = False) -> None:
    """Show where a model is cut: each segment, its planes, its bytes, and which operation is on which side."""
    with show.ShownProgress(quiet=json) as progress:
        found = _anatomy(model, progress)
    if json:
        show.write_json(found)
    else:
        _print(found)


def _anatomy(model: str, progress: Progress) -> Anatomy:
    place = Path(os.path.expanduser(model))
    config = bare_config(place)
    if config:
        described = BareConfig(config)
        return anatomy(described.model(), described.matrix)
    is_directory = os.path.isfile(place / "config.json")
    with Checkpoint.open(place) if is_directory else open_checkpoint(model, progress) as checkpoint:
        return anatomy(checkpoint.model, checkpoint.tensor)


def _print(found: Anatomy) -> None:
    totals = found.totals
    drawn.render(
        f"[bold]{escape(one_line(found.name))}[/bold]  "
        f"family {found.family}, numerics {found.numerics}, digest {found.digest[:16]}",
        f"{totals.parameters / 1e6:,.1f} M parameters in {bytes_text(totals.weight_bytes)} of weight memory; "
        f"a token meets {totals.active_parameters / 1e6:,.1f} M of them in {totals.flops_per_token / 1e6:,.1f} MFLOP; "
        f"{bytes_text(totals.context_bytes_per_token)} of context memory and {bytes_text(totals.link_bytes_per_token)} "
        f"across the cut a token; vocabulary {found.vocabulary:,}, context {found.context_length:,}\n",
        _segments(found),
        _layers(found),
        _operations(found),
    )


def _segments(found: Anatomy) -> Table:
    table = Table(title="The cut: what each segment takes and gives, a row a token", title_justify="left")
    for name in ("segment", "takes", "context-free operations", "gives"):
        table.add_column(name)
    table.add_column("weight bytes", justify="right")
    table.add_column("then, context-aware")
    table.add_column("context bytes a token", justify="right")
    steps = [row for row in found.segments if row.then]
    parts: dict[SegmentRow, list[SegmentRow]] = {}  # experts, and parts of segments that have some, by what they are
    for row in found.segments[len(steps) :]:
        parts.setdefault(msgspec.structs.replace(row, segment=0), []).append(row)
    for span, each, first in _runs_of([*steps, *chain.from_iterable(parts.values())], "segment"):
        table.add_row(
            span, _planes(first.takes), _runs(first.operations), _planes(first.gives),
            f"{first.weight_bytes:,}{each}", " ".join(first.then), f"{first.context_bytes_per_token:,}{each}",
        )  # fmt: skip
    return table


def _layers(found: Anatomy) -> Table:
    table = Table(title="The layers: what each costs weight memory, and context memory", title_justify="left")
    table.add_column("layer")
    for name in (
        "parameters",
        "of a token",
        "weight bytes",
        "FLOP a token",
        "FLOP a position",
        "context bytes",
        "window",
    ):
        table.add_column(name, justify="right")
    for span, each, row in _runs_of(found.layers, "layer"):
        counts = (row.parameters, row.active_parameters, row.weight_bytes, row.flops_per_token)
        seen = (row.flops_per_position, row.context_bytes_per_token)
        table.add_row(f"{span}{each}", *(f"{count:,}" for count in (*counts, *seen)), str(row.window or "all"))
    return table


Row = TypeVar("Row", SegmentRow, LayerRow)


def _runs_of(rows: Sequence[Row], number: str) -> Iterator[tuple[str, str, Row]]:
    """(numbers, " each" if they are several, first) of every run of rows that differ in their number alone."""
    for _, same in groupby(rows, key=lambda row: msgspec.structs.replace(row, **{number: 0})):
        alike = list(same)
        numbers = [getattr(row, number) for row in alike]
        between = "–" if numbers[-1] - numbers[0] < len(numbers) else " … "
        several = len(numbers) > 1
        span = f"{numbers[0]}{between}{numbers[-1]}" if several else f"{numbers[0]}"
        yield span, (" each" if several else ""), alike[0]


def _runs(names: tuple[str, ...]) -> str:
    """`linear×3 add` for linear linear linear add."""
    runs = [(name, len(list(same))) for name, same in groupby(names)]
    return " ".join(name if count == 1 else f"{name}×{count}" for name, count in runs)


def _planes(planes: tuple[Plane, ...]) -> str:
    return "\n".join(f"{plane.name} {plane.dtype}\\[{plane.width}]" for plane in planes)


def _operations(found: Anatomy) -> Table:
    table = Table("operation", "side", "shapes", "by which rule", "a token", title="Which operation is on which side")
    table.title_justify = "left"
    for row in found.operations:
        table.add_row(row.name, row.side.value, row.shapes.replace("[", "\\["), row.rule, f"{row.count}")
    return table
