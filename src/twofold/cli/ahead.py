"""Memory for weights, taken while the rest of the program is still being loaded.

Loading Python's modules keeps one processor busy for a tenth of a second and more. Meanwhile another one can take and
clear the memory that the weights will need, which on a virtual machine can last as long.
"""

import ctypes
import os
from collections.abc import Sequence

from twofold.config import Settings, read_settings
from twofold.errors import TwofoldError
from twofold.native import library
from twofold.store.catalogue import BY_NAME
from twofold.store.models import path_of

ELSEWHERE = ("--split", "--weights", "--map", "--help", "-h")  # then no weights come into this process


def expect(verb: str, arguments: Sequence[str]) -> None:
    """Begin to take memory for the weights of what `verb` is about to do, if it is plain which model that is."""
    try:
        path = model_path(verb, arguments, read_settings())
        if path:
            library().tf_expect(ctypes.c_int64(os.stat(path).st_size))
    except (OSError, ValueError, TwofoldError):
        return  # whatever is wrong is told where it matters


def model_path(verb: str, arguments: Sequence[str], settings: Settings) -> str | None:
    """The model file whose weights `twofold verb arguments` holds in its own process; None where that is not plain.

    Plain is a first argument that is a known name or the path of a `.gguf` file. The file need not be there. Raises
    ConfigurationError if no folder for models is known.
    """
    if verb not in ("run", "chat") or not arguments or settings.weights or settings.map:
        return None
    if any(argument.split("=")[0] in ELSEWHERE for argument in arguments):
        return None
    first = arguments[0]
    if first in BY_NAME:
        return str(path_of(BY_NAME[first]))
    return first if first.endswith(".gguf") and not first.startswith("-") else None
