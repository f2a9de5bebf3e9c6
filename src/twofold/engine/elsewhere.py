"""Weights that are not in this process: attached to where they run already, or in a child process."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from twofold import link
from twofold.config import Settings
from twofold.engine.attach import Attachments
from twofold.errors import FrameError, ProcessorLost
from twofold.kernels.native import physical_cores
from twofold.link.base import Connection
from twofold.memory import map_file
from twofold.memory.map import Entry
from twofold.model.tokenizer import TokenizerData
from twofold.processor.spawn import SpawnedWeights, weights_command
from twofold.store.catalogue import BY_NAME
from twofold.store.digest import digest_of
from twofold.store.models import file_at
from twofold.store.progress import Progress
from twofold.store.pull import ensure
from twofold.units import Nanoseconds, Seconds
from twofold.wire.message import AskTokenizer, TokenizerReply
from twofold.wire.rows import Rows

ASK_DEADLINE = Seconds(30.0)


@contextlib.contextmanager
def attached(model: str | None, settings: Settings) -> Iterator[Attachments]:
    """Attachments to the processors that the settings name."""
    path = Path(settings.map) if settings.map else None
    listing = map_file.read(path) if path else map_file.listing_of(settings.weights or "")
    digest, owner = _digest(model), os.urandom(16).hex()

    def connect(url: str, deadline: Seconds) -> Connection:
        return link.connect(url, digest=digest, owner=owner, deadline=deadline)

    with Attachments(connect, listing.entries()) as attachments:
        if path:
            attachments.follow(path, _entries)
        yield attachments


def _entries(path: Path) -> list[Entry]:
    """What the file of a map lists."""
    return map_file.read(path).entries()


def spawned(stack: contextlib.ExitStack, model: str, settings: Settings, progress: Progress) -> Attachments:
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


def ask_tokenizer(attachments: Attachments) -> TokenizerData:
    """The tokenizer of the model, as any replica tells it; FrameError if that cannot be understood."""
    reply = attachments.ask(AskTokenizer(), ASK_DEADLINE)
    if not isinstance(reply, TokenizerReply):
        raise FrameError(f"a weight processor answered with {type(reply).__name__} instead of its tokenizer")
    try:
        return msgspec.msgpack.decode(reply.data, type=TokenizerData)
    except msgspec.MsgspecError as error:
        raise FrameError(f"a weight processor sent a tokenizer that cannot be read ({error})") from error
