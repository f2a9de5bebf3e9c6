"""`twofold weights`: a weight processor."""

import os
import select
import signal
import sys
import threading
from typing import Annotated

import typer

from twofold import link
from twofold.cli import options, show
from twofold.engine.assemble import load_weights, open_backend, open_checkpoint
from twofold.errors import one_line
from twofold.kernels.native import Native
from twofold.processor.weight import WeightProcessor
from twofold.units import bytes_text


def weights(
    model: options.Model,
    listen: Annotated[
        str, typer.Option(metavar="URL", help="Where to be reached: tcp://127.0.0.1:PORT or shm://NAME.")
    ] = "tcp://127.0.0.1:7070",
    threads: options.Threads = None,
    packed_cache: options.PackedCache = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="End when standard input does.", hidden=True)
    ] = False,
) -> None:
    """Hold a model's weights and answer calls, until Ctrl-C. It keeps nothing of a call."""
    settings = options.settings(threads, packed_cache=packed_cache)
    listener = link.listen(listen)
    try:
        with show.ShownProgress() as progress:
            backend = open_backend(settings, progress)
            with open_checkpoint(model, progress) as checkpoint:
                memory = load_weights(checkpoint, backend, progress)
    except BaseException:
        listener.close()
        raise
    processor = WeightProcessor(memory, [listener], title=memory.manifest.name)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: processor.stop())
    if with_parent:
        threading.Thread(target=_stop_with_stdin, args=(processor,), daemon=True).start()
    show.write(f"ready {listener.url}\n")
    show.note(
        _description(one_line(memory.manifest.name), memory.size_bytes, memory.manifest.segments, backend, listener.url)
    )
    try:
        processor.serve_forever()
    finally:
        memory.close()
        backend.close()


def _description(name: str, size_bytes: int, segments: int, backend: Native, url: str) -> str:
    able = backend.capabilities()
    return (
        f"{name}: {bytes_text(size_bytes)} of weights in {segments} segments, "
        f"{able.threads} threads, {able.vector_level}. Use it with: twofold run --weights {url} 'your text'"
    )


def _stop_with_stdin(processor: WeightProcessor) -> None:
    """Returns, and stops the processor, once whoever holds the other end of standard input is gone."""
    while True:
        select.select([sys.stdin], [], [])
        if not os.read(sys.stdin.fileno(), 4096):
            processor.stop()
            return
