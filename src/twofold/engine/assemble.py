"""Putting the parts together: from a model's name, or a weight processor's address, to an engine."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from twofold import link
from twofold.config import Settings
from twofold.engine.attach import Attachments
from twofold.engine.caller import Caller
from twofold.engine.engine import Engine
from twofold.errors import ConfigurationError, FrameError, ProcessorLost, one_line
from twofold.kernels.native import Native, physical_cores
from twofold.kernels.packed_file import PackedCache
from twofold.link.base import Connection, Service
from twofold.memory import map_file
from twofold.memory.context import ContextMemory
from twofold.memory.map import Entry
from twofold.memory.weight import WeightMemory
from twofold.model.checkpoint import Checkpoint
from twofold.model.manifest import Manifest
from twofold.model.ranges import parse_ranges
from twofold.model.tokenizer import Tokenizer, TokenizerData
from twofold.processor.spawn import SpawnedWeights, weights_command
from twofold.store.catalogue import BY_NAME, DEFAULT_MODEL
from twofold.store.digest import digest_of
from twofold.store.models import file_at, packed_folder
from twofold.store.pull import ensure
from twofold.units import Nanoseconds, Seconds
from twofold.wire.message import AskTokenizer, TokenizerReply
from twofold.wire.rows import Rows

Progress = Callable[[str, int, int], None]  # stage, bytes done, bytes in all
ASK_DEADLINE = Seconds(30.0)


@dataclass
class Ready:
    """An engine that can be used, with the tokenizer of its model."""

    engine: Engine
    tokenizer: Tokenizer


def open_checkpoint(name: str, progress: Progress) -> Checkpoint:
    """The checkpoint of a catalogue name (fetched and verified) or of a path."""
    path = ensure(name, progress)
    entry = BY_NAME.get(name)
    return Checkpoint.open(path, digest=entry.sha256 if entry else digest_of(path, progress))


def open_backend(settings: Settings, progress: Progress) -> Native:
    """The backend of a process that is to hold weights; stage "stale" if a packed file is of no use."""
    cache = PackedCache(packed_folder(), lambda: progress("stale", 0, 0)) if settings.packed_cache else None
    return Native(threads=settings.threads, level=settings.vector_level, packed_cache=cache)


def load_weights(
    checkpoint: Checkpoint,
    backend: Native,
    progress: Progress,
    *,
    segments: str | None = None,
    experts: str | None = None,
) -> WeightMemory:
    """The weights of some segments (`0-3,7`; default all) in a weight memory of this process.

    `experts`: of each mixture these alone. ConfigurationError for a segment or an expert that the model does not have.
    """
    manifest = checkpoint.model.manifest
    wanted = _numbers(manifest, "segments", segments, manifest.ends.stop)
    own = _numbers(manifest, "experts", experts, max((each.count for each in manifest.mixtures), default=0))
    return WeightMemory(
        checkpoint.model,
        checkpoint.tensor,
        backend,
        segments=sorted(manifest.holding(wanted, None if experts is None else own)),
        tokenizer=functools.partial(msgspec.msgpack.encode, checkpoint.tokenizer),
        progress=lambda done, total: progress("load", done, total),
    )


@contextlib.contextmanager
def open_engine(model: str | None, settings: Settings, *, split: bool, progress: Progress) -> Iterator[Ready]:
    """An engine over `settings.weights` or `settings.map` if set, else over a child process if `split`, else all here.

    `model`: a catalogue name or path; None with running processors takes whatever they hold.
    """
    with contextlib.ExitStack() as stack:
        if remote(settings):
            attachments = stack.enter_context(_attached(model, settings))
        elif split:
            attachments = stack.enter_context(_spawned(stack, model or "", settings, progress))
        else:
            yield stack.enter_context(_in_process(model or "", settings, progress))
            return
        tokenizer = Tokenizer(_ask_tokenizer(attachments))
        threads = settings.threads if remote(settings) else 1
        backend = Native(threads=threads, level=settings.vector_level)
        stack.callback(backend.close)
        wait = Seconds(settings.wait if remote(settings) else 0)  # a child does not come back
        yield _ready(stack, attachments, tokenizer, backend, settings, wait=wait)


def remote(settings: Settings) -> bool:
    """Whether the weights are with processors that run already."""
    return bool(settings.weights or settings.map)


def chosen_model(model: str | None, settings: Settings) -> str | None:
    """`model`; without one the default, or with running processors None: whatever they hold."""
    return model or (None if remote(settings) else DEFAULT_MODEL)


@contextlib.contextmanager
def _in_process(model: str, settings: Settings, progress: Progress) -> Iterator[Ready]:
    with contextlib.ExitStack() as stack:
        backend = open_backend(settings, progress)
        stack.callback(backend.close)
        with open_checkpoint(model, progress) as checkpoint:
            tokenizer = Tokenizer(checkpoint.tokenizer)  # before the weights, as it takes most memory while it is made
            weights = load_weights(checkpoint, backend, progress)
        stack.callback(weights.close)
        attachments = stack.enter_context(attached_to(weights))
        yield _ready(stack, attachments, tokenizer, backend, settings, wait=Seconds(0))


def _numbers(manifest: Manifest, what: str, ranges: str | None, count: int) -> frozenset[int]:
    """Which of the model's `count` segments or experts are meant; all if nothing is said."""
    if ranges is None:
        return frozenset(range(count))
    found = parse_ranges(ranges)
    if max(found) >= count:
        has = f"has {what} 0-{count - 1}, not {max(found)}" if count else f"has no {what}"
        raise ConfigurationError(f"{one_line(manifest.name)} {has}; see twofold inspect")
    return found


def attached_to(*services: Service) -> Attachments:
    """Attachments to weight memories of this process, which need no watching."""
    by_url = {f"inproc://{number}": service for number, service in enumerate(services)}
    return Attachments(
        lambda url, deadline: link.connect(url, service=by_url[url], deadline=deadline),
        [Entry(url) for url in by_url],
        watch=False,
    )


@contextlib.contextmanager
def _attached(model: str | None, settings: Settings) -> Iterator[Attachments]:
    """Attachments to the processors that the settings name."""
    path = Path(settings.map) if settings.map else None
    listing = map_file.read(path) if path else map_file.listing_of(settings.weights or "")
    digest, owner = _digest(model), os.urandom(16).hex()

    def connect(url: str, deadline: Seconds) -> Connection:
        return link.connect(url, digest=digest, owner=owner, deadline=deadline)

    with Attachments(connect, listing.entries()) as attachments:
        if path:
            attachments.follow(path)
        yield attachments


def _ready(
    stack: contextlib.ExitStack,
    attachments: Attachments,
    tokenizer: Tokenizer,
    backend: Native,
    settings: Settings,
    *,
    wait: Seconds,
) -> Ready:
    """The context side of `attachments`."""
    context = ContextMemory(attachments.manifest, backend, positions=settings.context)
    stack.callback(context.shutdown)
    caller = Caller(attachments, wait=wait)
    stack.callback(caller.close)
    return Ready(Engine(caller, context), tokenizer)


def _spawned(stack: contextlib.ExitStack, model: str, settings: Settings, progress: Progress) -> Attachments:
    """Attachments to a weight processor in a child process, over shared memory."""
    path = ensure(model, progress)  # here, so that its progress is shown here
    threads = settings.threads or max(1, physical_cores() - 1)
    progress("start", 0, 0)
    child = stack.enter_context(
        SpawnedWeights(weights_command(path, threads=threads, packed_cache=settings.packed_cache))
    )
    return Attachments(lambda url, deadline: Watched(link.connect(url, deadline=deadline), child), [Entry(child.url)])


class Watched:
    """A connection to a child: if the child dies, the error says how."""

    def __init__(self, connection: Connection, child: SpawnedWeights) -> None:
        self._connection, self._child = connection, child
        self.manifest, self.layout = connection.manifest, connection.layout
        self.held, self.peer = connection.held, connection.peer
        self.ask, self.close, self.begin = connection.ask, connection.close, connection.begin
        self.interrupt, self.port = connection.interrupt, connection.port

    def finish(self) -> Nanoseconds:
        """As the connection's; ProcessorLost also says how the child ended."""
        with self._said():
            return self._connection.finish()

    def resume(self, segment: int, count: int, deadline: Seconds, what: int) -> Nanoseconds:
        """As `finish`."""
        with self._said():
            return self._connection.resume(segment, count, deadline, what)

    def call(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """As `finish`."""
        with self._said():
            return self._connection.call(rows, segment, count, deadline)

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except ProcessorLost as error:
            how = self._child.died()
            raise ProcessorLost(f"{error}: the process was {how}" if how else str(error)) from error


def _digest(model: str | None) -> str | None:
    """The digest that a weight processor must hold for `model`; None if any model will do."""
    if model is None:
        return None
    entry = BY_NAME.get(model)
    return entry.sha256 if entry else digest_of(file_at(model))


def _ask_tokenizer(attachments: Attachments) -> TokenizerData:
    reply = attachments.ask(AskTokenizer(), ASK_DEADLINE)
    if not isinstance(reply, TokenizerReply):
        raise FrameError(f"a weight processor answered with {type(reply).__name__} instead of its tokenizer")
    try:
        return msgspec.msgpack.decode(reply.data, type=TokenizerData)
    except msgspec.MsgspecError as error:
        raise FrameError(f"a weight processor sent a tokenizer that cannot be read ({error})") from error
