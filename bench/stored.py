"""What a bench says of itself, and how one that judges promises ends."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from twofold.engine.machine import stamp
from twofold.kernels.native import Native


def heading(command: str | None = None) -> dict[str, Any]:
    """The `command` (default: the one under way), and the machine that it runs on."""
    backend = Native()
    try:
        return {"command": command or " ".join(["python", *sys.argv]), **stamp(backend.capabilities())}
    finally:
        backend.close()


def store(result: dict[str, Any], output: Path) -> None:
    """Write a result as JSON; the folder is made."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def conclude(result: dict[str, Any], output: Path, shown: dict[str, Any]) -> NoReturn:
    """Store a result with "promises", print what is to be `shown`, end with status 1 if a promise is broken."""
    store(result, output)
    print(json.dumps(shown, indent=1))
    sys.exit(not all(promise["kept"] for promise in result["promises"].values()))
