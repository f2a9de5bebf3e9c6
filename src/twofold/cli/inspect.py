"""`twofold inspect`: the cut of a model as a table."""

from itertools import groupby

from rich.markup import escape
from rich.table import Table

from twofold.cli import drawn, options, show
from twofold.engine.assemble import open_checkpoint
from twofold.errors import one_line
from twofold.model.anatomy import Anatomy, SegmentRow, anatomy
from twofold.model.segment import Plane
from twofold.store.catalogue import DEFAULT_MODEL
from twofold.units import bytes_text


def inspect(model: options.Model = DEFAULT_MODEL, json: options.Json = False) -> None:
    """Show where a model is cut: each segment, its planes, its bytes, and which operation is on which side."""
    with show.ShownProgress(quiet=json) as progress, open_checkpoint(model, progress) as checkpoint:
        found = anatomy(checkpoint.model, checkpoint.tensor)
    if json:
        show.write_json(found)
    else:
        _print(found)


def _print(found: Anatomy) -> None:
    totals = found.totals
    drawn.render(
        f"[bold]{escape(one_line(found.name))}[/bold]  "
        f"family {found.family}, numerics {found.numerics}, digest {found.digest[:16]}",
        f"{totals.parameters / 1e6:,.1f} M parameters in {bytes_text(totals.weight_bytes)} of weight memory; "
        f"{bytes_text(totals.context_bytes_per_token)} of context memory and {bytes_text(totals.link_bytes_per_token)} "
        f"across the cut a token; vocabulary {found.vocabulary:,}, context {found.context_length:,}\n",
        _segments(found),
        _operations(found),
    )


def _segments(found: Anatomy) -> Table:
    table = Table(title="The cut: what each segment takes and gives, a row a token", title_justify="left")
    for name in ("segment", "takes", "context-free operations", "gives"):
        table.add_column(name)
    table.add_column("weight bytes", justify="right")
    table.add_column("then, context-aware")
    table.add_column("context bytes a token", justify="right")
    for _, same in groupby(found.segments, key=_alike):
        rows = list(same)
        first, last = rows[0], rows[-1]
        span = f"{first.segment}" if first is last else f"{first.segment}–{last.segment}"
        each = " each" if first is not last else ""
        table.add_row(
            span, _planes(first.takes), _runs(first.operations), _planes(first.gives),
            f"{first.weight_bytes:,}{each}", " ".join(first.then), f"{first.context_bytes_per_token:,}{each}",
        )  # fmt: skip
    return table


def _runs(names: tuple[str, ...]) -> str:
    """`linear×3 add` for linear linear linear add."""
    runs = [(name, len(list(same))) for name, same in groupby(names)]
    return " ".join(name if count == 1 else f"{name}×{count}" for name, count in runs)


def _alike(row: SegmentRow) -> tuple[object, ...]:
    return (row.takes, row.gives, row.operations, row.weight_bytes, row.then, row.context_bytes_per_token)


def _planes(planes: tuple[Plane, ...]) -> str:
    return "\n".join(f"{plane.name} {plane.dtype}\\[{plane.width}]" for plane in planes)


def _operations(found: Anatomy) -> Table:
    table = Table("operation", "side", "shapes", "by which rule", "a token", title="Which operation is on which side")
    table.title_justify = "left"
    for row in found.operations:
        table.add_row(row.name, row.side.value, row.shapes.replace("[", "\\["), row.rule, f"{row.count}")
    return table
