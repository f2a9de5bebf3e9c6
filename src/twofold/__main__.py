"""The first lines that run, of `twofold` and of `python -m twofold`."""

import gc
import importlib
import os
import signal
import sys

LOADING = 100_000  # objects between two collections: a vocabulary and its merges are so many, none of them garbage


def main() -> None:
    """Run the command line. While it loads there is no garbage, at its end none that matters; Ctrl-C while it
    loads ends us as the system does.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(LOADING)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads: we use none, and they spin when they start
    importlib.import_module("twofold.cli.ahead").expect(sys.argv[1:])
    command_line = importlib.import_module("twofold.cli.main")
    signal.signal(signal.SIGINT, handler)
    try:
        command_line.main()
    finally:
        gc.freeze()  # or Python looks through all that is there, several times, on its way out


if __name__ == "__main__":
    main()
