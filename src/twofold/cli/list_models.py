"""`twofold list`: the models that are known, and whether they are here."""

from rich.markup import escape
from rich.table import Table

from twofold.cli import drawn, options, show
from twofold.store.models import Model, list_models
from twofold.units import bytes_text


def list_(json: options.Json = False) -> None:
    """Show the known models and which of them are here."""
    models = list_models()
    if json:
        show.write_json(
            [
                {
                    "name": m.name, "title": m.title, "path": str(m.path), "size_bytes": m.size_bytes,
                    "present": m.present, "partial": m.partial,
                }
                for m in models
            ]
        )  # fmt: skip
        return
    table = Table("name", "model", "size", "here", box=None)
    for m in models:
        table.add_row(m.name, m.title, bytes_text(m.size_bytes), _state(m))
    drawn.render(table)


def _state(model: Model) -> str:
    if model.present:
        return escape(str(model.path))
    return "being fetched, or cut off" if model.partial else "no (twofold pull fetches it)"
