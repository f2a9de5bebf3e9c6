"""`twofold weights`: a weight processor."""

import os
import select
import signal
import sys
import threading
import time
from contextlib import nullcontext
from typing import Annotated

import typer

from twofold import link
from twofold.cli import options, show
from twofold.engine.assemble import load_weights, open_backend, open_checkpoint
from twofold.errors import one_line
from twofold.kernels.native import Native
from twofold.link.exposure import Tokens
from twofold.memory.weight import WeightMemory
from twofold.model.ranges import ranges_text
from twofold.processor.metrics import exposition
from twofold.processor.scrape import Scrape
from twofold.processor.weight import WeightProcessor
from twofold.store.keys import in_force, keys_folder
from twofold.units import bytes_text

DEFAULT_URL = "tcp://127.0.0.1:7070"


Listen = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL",
        help="Where to be reached: tcp://127.0.0.1:PORT (default: 7070), shm://NAME, tls://HOST:PORT, "
        "ws://127.0.0.1:PORT or wss://HOST:PORT. Repeat it for several.",
    ),
]
Origin = Annotated[
    list[str] | None,
    typer.Option(metavar="URL", help="Let pages of this origin connect by ws:// and wss://. Repeat it for several."),
]
Segments = Annotated[
    str | None,
    typer.Option(metavar="RANGES", help="Hold these segments alone, like 0-15 or 0-3,7 (twofold inspect lists them)."),
]
Experts = Annotated[
    str | None,
    typer.Option(metavar="RANGES", help="Hold these experts of each mixture alone, like 0-63; others hold the rest."),
]
NeedTokens = Annotated[
    bool, typer.Option("--tokens", help="Let in only who has a token (twofold keys grant), on this host too.")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="Serve figures for Prometheus at http://HOST:PORT/metrics, on this host alone."
    ),
]
WithParent = Annotated[bool, typer.Option("--with-parent", help="End when standard input does.", hidden=True)]


def weights(
    model: options.Model,
    listen: Listen = None,
    origin: Origin = None,
    segments: Segments = None,
    experts: Experts = None,
    tokens: NeedTokens = False,
    metrics: Metrics = None,
    threads: options.Threads = None,
    packed_cache: options.PackedCache = None,
    with_parent: WithParent = False,
) -> None:
    """Hold a model's weights and answer calls, until Ctrl-C. It keeps nothing of a call."""
    settings = options.settings(threads, packed_cache=packed_cache)
    asked = Tokens(in_force(keys_folder(), time.time()), tokens)
    listeners = link.listen_at(listen or [DEFAULT_URL], asked, origin or ())
    try:
        scrape = Scrape(metrics) if metrics else None
        with show.ShownProgress() as progress:
            backend = open_backend(settings, progress)
            with open_checkpoint(model, progress) as checkpoint:
                memory = load_weights(checkpoint, backend, progress, segments=segments, experts=experts)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    processor = WeightProcessor(memory, listeners, title=memory.manifest.name)
    if with_parent:
        threading.Thread(target=_stop_with_stdin, args=(processor,), daemon=True).start()
    try:
        _serve(processor, scrape, _description(memory, backend, processor.urls[0]))
    finally:
        memory.close()
        backend.close()


def _serve(processor: WeightProcessor, scrape: Scrape | None, description: str) -> None:
    """Say that it is ready, and serve until a signal."""
    signal.signal(signal.SIGINT, lambda *_: processor.stop())
    signal.signal(signal.SIGTERM, lambda *_: processor.leave())
    with scrape.serving(lambda: exposition(processor.status())) if scrape else nullcontext():
        show.write("".join(f"ready {url}\n" for url in processor.urls))
        show.note(description)
        if scrape:
            show.note(f"Metrics: {scrape.url}")
        processor.serve_forever()


def _description(memory: WeightMemory, backend: Native, url: str) -> str:
    able, manifest = backend.capabilities(), memory.manifest
    others = "" if len(memory.held) == manifest.segments else ",URL…"
    return (
        f"{one_line(manifest.name)}: {bytes_text(memory.size_bytes)} of weights, "
        f"segments {ranges_text(memory.held)} of 0-{manifest.segments - 1}, "
        f"{able.threads} threads, {able.vector_level}. Use it with: twofold run --weights {url}{others} 'your text'"
    )


def _stop_with_stdin(processor: WeightProcessor) -> None:
    """Returns, and stops the processor, once whoever holds the other end of standard input is gone."""
    while True:
        select.select([sys.stdin], [], [])
        if not os.read(sys.stdin.fileno(), 4096):
            processor.stop()
            return
