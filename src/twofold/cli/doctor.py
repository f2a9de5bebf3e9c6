"""`twofold doctor`: what this machine has and what Twofold will use of it."""

import os
import platform
import sys
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from twofold import __version__
from twofold.cli import drawn, options, show
from twofold.config import config_file, read_settings
from twofold.engine import measure
from twofold.engine.machine import memory, processor
from twofold.engine.measure import Figure
from twofold.kernels.binding import Functions
from twofold.kernels.native import Native, physical_cores
from twofold.model.format import FORMATS
from twofold.model.manifest import NUMERICS
from twofold.native import PATH
from twofold.store.models import list_models, models_folder

LIMIT_ROUNDS = 5  # a glance, well under a second; `twofold bench bandwidth` looks longer


def doctor(json: options.Json = False) -> None:
    """Check this installation and show what it will use."""
    findings = examine()
    if json:
        show.write_json(findings)
        return
    table = Table(show_header=False, box=None)
    for name, value in findings.items():
        table.add_row(name.replace("_", " "), escape(_shown(value)))
    drawn.render(table)


def _shown(value: object) -> str:
    """A finding for people."""
    if isinstance(value, Figure):
        return show.quantity(value.median, value.unit)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def examine() -> dict[str, object]:
    """What was found; raises the error that a run would raise if something is missing."""
    settings = read_settings()
    backend = Native(threads=settings.threads, level=settings.vector_level)
    able, bounds = backend.capabilities(), measure.limits(backend, LIMIT_ROUNDS)
    backend.close()
    file = config_file(os.environ)
    return {
        "twofold": __version__,
        "python": platform.python_version(),
        "machine": processor(),
        "system": platform.platform(),
        "memory": memory(),
        "physical_cores": physical_cores(),
        "threads": able.threads,
        "vector_level": able.vector_level,
        "vector_levels": Functions().levels(),
        "read_bandwidth": bounds.read,
        "int8_rate": bounds.multiply,
        "huge_pages": _first_line(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "numerics": NUMERICS,
        "weight_formats": [f.name for f in FORMATS],
        "native_library": str(PATH),
        "settings_file": str(file) if file.is_file() else "none",
        "models_folder": str(models_folder()),
        "models_here": [m.name for m in list_models() if m.present] or "none",
        "interpreter": sys.executable,
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _first_line(path: Path) -> str:
    return (_read(path).splitlines() or ["unknown"])[0]
