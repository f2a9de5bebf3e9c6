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


def expect(arguments: Sequence[str]) -> None:
    """Begin to take memory for the weights of `twofold arguments`, if it is plain which model they are of."""
    try:
        path = model_path(arguments, read_settings())
        if path:
            library().tf_expect(ctypes.c_int64(os.stat(path).st_size))
    except (OSError, ValueError, TwofoldError):
        return  # whatever is wrong is told where it matters


def model_path(arguments: Sequence[str], settings: Settings) -> str | None:
    """The model file whose weights `twofold arguments` holds in its own process; None where that is not plain.

    Plain is a verb that comes first, and after it a known name or the path of a `.gguf` file. The file need not be
    there. Raises ConfigurationError if no folder for models is known.
    """
    if len(arguments) < 2 or arguments[0] not in ("run", "chat") or settings.weights or settings.map:
        return None
    if any(argument.split("=")[0] in ELSEWHERE for argument in arguments):
        return None
    model = arguments[1]
    if model in BY_NAME:
        return str(path_of(BY_NAME[model]))
    return model if model.endswith(".gguf") and not model.startswith("-") else None
