"""Putting the parts together: from a model's name, or a weight processor's address, to an engine."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from twofold import link
from twofold.config import Settings
from twofold.engine.caller import Caller
from twofold.engine.engine import Engine
from twofold.errors import FrameError, ProcessorLost
from twofold.kernels.native import Native, physical_cores
from twofold.kernels.packed_file import PackedCache
from twofold.link.base import Connection
from twofold.memory.context import ContextMemory
from twofold.memory.map import MemoryMap
from twofold.memory.weight import WeightMemory
from twofold.model.checkpoint import Checkpoint
from twofold.model.tokenizer import Tokenizer, TokenizerData
from twofold.processor.spawn import SpawnedWeights, weights_command
from twofold.store.catalogue import BY_NAME
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


def load_weights(checkpoint: Checkpoint, backend: Native, progress: Progress) -> WeightMemory:
    """All weights of a checkpoint in a weight memory of this process."""
    return WeightMemory(
        checkpoint.model,
        checkpoint.tensor,
        backend,
        tokenizer=msgspec.msgpack.encode(checkpoint.tokenizer),
        progress=lambda done, total: progress("load", done, total),
    )


@contextlib.contextmanager
def open_engine(model: str | None, settings: Settings, *, split: bool, progress: Progress) -> Iterator[Ready]:
    """An engine over `settings.weights` if set, else over a child process if `split`, else all in this process.

    `model`: a catalogue name or path; None with `settings.weights` takes whatever the processor holds.
    """
    with contextlib.ExitStack() as stack:
        if settings.weights:
            connection = link.connect(settings.weights, digest=_digest(model))
        elif split:
            connection = _spawned(stack, model or "", settings, progress)
        else:
            yield stack.enter_context(_in_process(model or "", settings, progress))
            return
        stack.callback(connection.close)
        tokenizer = Tokenizer(_ask_tokenizer(connection))
        context_threads = settings.threads if settings.weights else 1
        backend = Native(threads=context_threads, level=settings.vector_level)
        stack.callback(backend.close)
        yield _ready(stack, connection, tokenizer, backend, settings)


@contextlib.contextmanager
def _in_process(model: str, settings: Settings, progress: Progress) -> Iterator[Ready]:
    with contextlib.ExitStack() as stack:
        backend = open_backend(settings, progress)
        stack.callback(backend.close)
        with open_checkpoint(model, progress) as checkpoint:
            tokenizer = Tokenizer(checkpoint.tokenizer)  # before the weights, as it takes most memory while it is made
            weights = load_weights(checkpoint, backend, progress)
        stack.callback(weights.close)
        connection = link.connect("inproc://", service=weights)
        stack.callback(connection.close)
        yield _ready(stack, connection, tokenizer, backend, settings)


def _ready(
    stack: contextlib.ExitStack,
    connection: Connection,
    tokenizer: Tokenizer,
    backend: Native,
    settings: Settings,
) -> Ready:
    """The context side of `connection`."""
    memory_map = MemoryMap(connection.manifest)
    memory_map.add(connection)
    memory_map.check()
    context = ContextMemory(connection.manifest, backend, positions=settings.context)
    stack.callback(context.shutdown)
    return Ready(Engine(Caller(memory_map), context), tokenizer)


def _spawned(stack: contextlib.ExitStack, model: str, settings: Settings, progress: Progress) -> Connection:
    """A connection to a weight processor in a child process, over shared memory."""
    path = ensure(model, progress)  # here, so that its progress is shown here
    threads = settings.threads or max(1, physical_cores() - 1)
    progress("start", 0, 0)
    child = stack.enter_context(
        SpawnedWeights(weights_command(path, threads=threads, packed_cache=settings.packed_cache))
    )
    return Watched(link.connect(child.url), child)


class Watched:
    """A connection to a child: if the child dies, the error says how."""

    def __init__(self, connection: Connection, child: SpawnedWeights) -> None:
        self._connection, self._child = connection, child
        self.manifest, self.layout = connection.manifest, connection.layout
        self.held, self.peer = connection.held, connection.peer
        self.ask, self.close, self.begin = connection.ask, connection.close, connection.begin

    def finish(self) -> Nanoseconds:
        """As the connection's; ProcessorLost also says how the child ended."""
        try:
            return self._connection.finish()
        except ProcessorLost as error:
            how = self._child.died()
            raise ProcessorLost(f"{error}: the process was {how}" if how else str(error)) from error

    def call(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """`begin` and `finish`."""
        self.begin(rows, segment, count, deadline)
        return self.finish()


def _digest(model: str | None) -> str | None:
    """The digest that a weight processor must hold for `model`; None if any model will do."""
    if model is None:
        return None
    entry = BY_NAME.get(model)
    return entry.sha256 if entry else digest_of(file_at(model))


def _ask_tokenizer(connection: Connection) -> TokenizerData:
    reply = connection.ask(AskTokenizer(), ASK_DEADLINE)
    if not isinstance(reply, TokenizerReply):
        raise FrameError(f"{connection.peer} answered with {type(reply).__name__} instead of its tokenizer")
    try:
        return msgspec.msgpack.decode(reply.data, type=TokenizerData)
    except msgspec.MsgspecError as error:
        raise FrameError(f"{connection.peer} sent a tokenizer that cannot be read ({error})") from error
