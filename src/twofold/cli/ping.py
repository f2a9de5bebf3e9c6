"""`twofold ping`: what a link allows, before any weight is loaded on this side."""

from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from twofold import link
from twofold.cli import drawn, options, show
from twofold.engine.assemble import open_checkpoint
from twofold.engine.forecast import Step, forecast
from twofold.engine.ping import Measured, Trips, measure
from twofold.errors import one_line
from twofold.link.joined import shown
from twofold.model.manifest import Manifest

STREAMS = 8


def ping(
    url: Annotated[str, typer.Argument(metavar="URL", help="The address of a weight processor.")],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Predict for this model, by name or .gguf file [the one held there]."),
    ] = None,
    count: Annotated[int, typer.Option(help="Round trips of each kind.")] = 100,
    json: options.Json = False,
) -> None:
    """Measure the link to a weight processor, and predict from it how fast a model can be over it at most."""
    connection = link.connect(url)
    try:
        measured, manifest, rows = measure(connection, count), connection.manifest, connection.layout.rows
    finally:
        connection.close()
    if model is not None:
        with show.ShownProgress(quiet=json) as progress, open_checkpoint(model, progress) as checkpoint:
            manifest = checkpoint.model.manifest
    sizes = ((1, 1), (STREAMS, STREAMS), (rows, 0))
    steps = [forecast(manifest, measured.link, each, wanted) for each, wanted in sizes]
    if json:
        about = {"name": manifest.name, "digest": manifest.digest}
        told = [{**msgspec.structs.asdict(step), "rows_per_second": step.rows_per_second} for step in steps]
        show.write_json({"url": shown(url), "measured": measured, "model": about, "steps": told})
        return
    drawn.render(_links(shown(url), measured), "", escape(_sentence(manifest, measured, steps[0])), "", _steps(steps))


def _links(url: str, measured: Measured) -> Table:
    table = Table(escape(url), "least", "p50", "p99", box=None)
    kinds = {"ping": measured.small, "call of one row": measured.call}
    for name, trips in kinds.items():
        table.add_row(name, *_times(trips))
    for name, trips, rate in (
        ("60 KiB to the weights", measured.up, measured.link.up_bytes_per_second),
        ("60 KiB back", measured.down, measured.link.down_bytes_per_second),
    ):
        table.add_row(name, *_times(trips), _rate(rate))
    return table


def _sentence(manifest: Manifest, measured: Measured, step: Step) -> str:
    """The prediction for one token, as the sum that it is."""
    at_most = f"at most {step.rows_per_second:,.0f} tok/s" if step.rows_per_second else "no limit to be seen"
    return (
        f"{one_line(manifest.name)}: {step.trips} round trips × {_milliseconds(measured.link.latency_seconds)} + "
        f"{step.up / 1e6:.2f} MB / {_rate(measured.link.up_bytes_per_second)} + "
        f"{step.down / 1e6:.2f} MB / {_rate(measured.link.down_bytes_per_second)} = "
        f"{_milliseconds(step.seconds)} a token, {at_most} before any computing"
    )


def _steps(steps: list[Step]) -> Table:
    table = Table("a step of", "round trips", "to the weights", "back", "time", "at most", box=None)
    for step in steps:
        what = "1 row" if step.rows == 1 else f"{step.rows} rows" + ("" if step.wanted else ", prefill")
        most = f"{step.rows_per_second:,.0f} tok/s" if step.rows_per_second else ""
        sizes = (f"{count / 1e6:.2f} MB" for count in (step.up, step.down))
        table.add_row(what, f"{step.trips}", *sizes, _milliseconds(step.seconds), most)
    return table


def _times(trips: Trips) -> tuple[str, str, str]:
    return _milliseconds(trips.least), _milliseconds(trips.p50), _milliseconds(trips.p99)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _rate(rate: float | None) -> str:
    return "too fast to tell" if rate is None else show.quantity(rate, "bytes_per_second")
