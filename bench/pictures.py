"""A stored result as a picture, the same file for the same figures. Needs the extra `bench`."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure


def picture(draw: Callable[[dict[str, Any]], Figure], doc: str | None) -> None:
    """The command `SCRIPT RESULT PICTURE`: draw one result."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("picture", type=Path)
    asked = parser.parse_args()
    mpl.rcParams |= {"svg.hashsalt": "twofold", "svg.fonttype": "none"}
    asked.picture.parent.mkdir(parents=True, exist_ok=True)
    draw(json.loads(asked.result.read_text())).savefig(asked.picture, metadata={"Date": None})
