"""Where chaos takes place: replicas, the way to them, and how each kind of event is done to one.

    Loopback     context process ── proxy i ── replica i           faults of frames, made by the proxies
    Namespaces   host context ── cables ── host i: replica i       faults of a network, made by the cables

Both start `replicas` processors of each share of a model; number i holds share i // replicas.
"""

import contextlib
import itertools
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fabric import keyring
from fabric.faults import Fault
from fabric.hosts import Network
from fabric.plan import LOOPBACK, LOSS, NETWORK, SLOW_MS, Event
from fabric.processors import Child, Processor, Start

PORT = 7070
CONTEXT = "context"
BASE_DELAY_MS = 0.1  # of every cable: two of them make a round trip of 0.4 ms
Act = Callable[[Event], None]


class Stage(NamedTuple):
    """What the rest needs to know. `begin` and `end` an event; a killed replica serves again when `end` returns."""

    replicas: list[Processor]
    weights: str  # addresses for --weights
    start: Start  # of a context process
    environment: Mapping[str, str]
    kinds: Sequence[str]
    begin: Act
    end: Act


def shares(segments: int, count: int) -> list[str]:
    """`--segments` of each of `count` contiguous shares of a model."""
    bounds = [segments * i // count for i in range(count + 1)]
    return [f"{first}-{last - 1}" for first, last in itertools.pairwise(bounds)]


def _options(segments: int, count: int, replicas: int) -> list[tuple[str, ...]]:
    """Options of every processor; the whole model needs none."""
    texts = shares(segments, count)
    return [("--segments", text) if count > 1 else () for text in texts for _ in range(replicas)]


def _begin(replicas: Sequence[Processor], event: Event) -> None:
    """What is alike everywhere."""
    replica = replicas[event.target]
    match event.kind:
        case "kill":
            replica.kill()
        case "stop":
            replica.signal(signal.SIGSTOP)
        case "restart":
            replica.end()
            replica.start()
            replica.ready()


def _end(replicas: Sequence[Processor], event: Event) -> None:
    replica = replicas[event.target]
    match event.kind:
        case "kill":
            replica.start()
            replica.ready()
        case "stop":
            replica.signal(signal.SIGCONT)


@contextlib.contextmanager
def loopback(model: str, segments: int, *, count: int = 2, replicas: int = 2, seed: int = 0) -> Iterator[Stage]:
    """Replicas on loopback, each behind a proxy."""
    with contextlib.ExitStack() as stack:
        processors = [
            stack.enter_context(Processor(model, "tcp://127.0.0.1:0", *options))
            for options in _options(segments, count, replicas)
        ]
        _start(processors)
        proxies = [_proxy(stack, processor, seed + i) for i, processor in enumerate(processors)]
        places = [proxy.first_line().removeprefix("listening ") for proxy in proxies]

        def begin(event: Event) -> None:
            if event.kind in ("hold", "corrupt", "duplicate", "drop", "slow"):
                proxies[event.target].say(Fault(event.kind, event.seconds, SLOW_MS).line)
            _begin(processors, event)

        weights = ",".join(f"tcp://{place}" for place in places)
        yield Stage(processors, weights, subprocess.Popen, {}, LOOPBACK, begin, lambda event: _end(processors, event))


def _start(processors: Sequence[Processor]) -> None:
    for processor in processors:
        processor.start()
    for processor in processors:
        processor.ready()


def _proxy(stack: contextlib.ExitStack, processor: Processor, seed: int) -> Child:
    proxy = stack.enter_context(Child(["-m", "fabric.proxy", "127.0.0.1:0", processor.place, str(seed)]))
    proxy.start()
    return proxy


def _environments(keys: Path | None) -> tuple[dict[str, str], dict[str, str]]:
    """Of the processors and of the context process; with the keys made if there is a folder for them."""
    if keys is None:
        return {}, {}
    keyring.grant_all(keys)
    return keyring.environment(keys, keyring.SERVER), keyring.environment(keys, keyring.GOOD)


@contextlib.contextmanager
def namespaces(
    model: str, segments: int, *, count: int = 2, replicas: int = 2, seed: int = 0, keys: Path | None = None
) -> Iterator[Stage]:
    """Replicas each on a host of its own, the context process on another; over TLS if there is a folder for `keys`."""
    with Network(seed=seed) as net, contextlib.ExitStack() as stack:
        server, client = _environments(keys)
        context = net.host(CONTEXT)
        names: list[str] = []
        processors: list[Processor] = []
        for options in _options(segments, count, replicas):
            host = net.host(f"weights {len(names)}")
            names.append(host.name)
            net.link(host.name, delay_ms=BASE_DELAY_MS)
            url = f"tls://{host.address}:{PORT}" if keys else f"tcp://{host.plain}:{PORT}"
            processors.append(
                stack.enter_context(Processor(model, url, *options, start=host.popen, environment=server))
            )
        _start(processors)
        if keys:
            keyring.join(keys, *(processor.place for processor in processors), encrypted=True)

        def begin(event: Event) -> None:
            name = names[event.target]
            match event.kind:
                case "partition":
                    net.cut(CONTEXT, name)
                case "cut out":
                    net.cut(CONTEXT, name, one_way=True)
                case "cut in":
                    net.cut(name, CONTEXT, one_way=True)
                case "slow":
                    net.link(name, delay_ms=BASE_DELAY_MS + SLOW_MS)
                case "loss":
                    net.link(name, delay_ms=BASE_DELAY_MS, loss=LOSS)
                case _:
                    _begin(processors, event)

        def end(event: Event) -> None:
            net.heal()
            net.link(names[event.target], delay_ms=BASE_DELAY_MS)
            _end(processors, event)

        weights = ",".join(processor.url for processor in processors)
        yield Stage(processors, weights, context.popen, client, NETWORK, begin, end)
