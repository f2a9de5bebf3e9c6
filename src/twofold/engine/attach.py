"""The replicas of one model as this process is attached to them: the memory map in force, and who keeps it true.

Lanes read `map` without a lock: every edit puts a new map in the place of the old one.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from twofold.engine.attachment import Attachment, Connect
from twofold.errors import LinkError, Refused, TwofoldError, Unreachable
from twofold.link.base import Connection
from twofold.log import logger
from twofold.memory.map import Entry, MemoryMap, State
from twofold.memory.usual import Usual
from twofold.model.manifest import Manifest
from twofold.units import Seconds
from twofold.wire.message import Message, Pong
from twofold.wire.rows import Layout

Read = Callable[[Path], Sequence[Entry]]

GLANCE = Seconds(1.0)  # between two looks at the file of the map
START_SECONDS = Seconds(10.0)  # for the replicas to be greeted
END_SECONDS = Seconds(1.0)  # for the threads to end


class Attachments:
    """The connections of one context process to all replicas; a context manager.

    Entering greets the replicas and returns once every segment can be called. It raises the error of the first
    replica if none can be used, ConfigurationError if some segments are held by nobody.
    """

    manifest: Manifest
    layout: Layout

    def __init__(self, connect: Connect, entries: Sequence[Entry], *, watch: bool = True) -> None:
        """`watch`: keep an eye on the replicas, one thread each, and make lost connections anew."""
        self.map = MemoryMap()
        self.usual = Usual()
        self._connect, self._entries, self._watch = connect, entries, watch
        self._attached: dict[str, Attachment] = {}
        self._changed = threading.Condition()
        self._lanes = 0
        self._ended = threading.Event()
        self._layout: Layout | None = None
        self._started = False  # somebody uses the layout
        self._file_thread: threading.Thread | None = None
        self._logger = logger("attach")

    def __enter__(self) -> Self:
        try:
            self.list(self._entries)
            self._wait_joined(time.monotonic() + START_SECONDS)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every replica; a second time is nothing."""
        self._ended.set()
        if self._file_thread is not None:
            self._file_thread.join()
        _end(self._attached.values())

    def list(self, entries: Sequence[Entry]) -> None:
        """From now on these replicas and no others; those that are new are greeted, those that went are left."""
        with self._changed:
            new = self._put(self.map.listed(entries, _now()))
            gone = [self._attached.pop(url) for url in list(self._attached) if url not in new]
            added = [Attachment(entry.url, self._connect, self) for entry in entries if entry.url not in self._attached]
            self._attached = self._attached | {attachment.url: attachment for attachment in added}
        _end(gone)
        for attachment in added:
            if self._watch:
                attachment.watch()
            else:
                attachment.join()

    def follow(self, path: Path, read: Read) -> None:
        """Keep to the list in a file from now on: what changes there is in force about a second later.

        `read`: the list that is in the file; a TwofoldError of it is logged, and the replicas stay as they are.
        """
        self._file_thread = threading.Thread(target=self._follow, args=(path, read), name=f"follow {path}", daemon=True)
        self._file_thread.start()

    def ask(self, message: Message, deadline: Seconds) -> Message:
        """The answer of any replica that is up; LinkError if none answers."""
        error: LinkError = Unreachable("no weight processor is up; start one")
        for replica in self.map.replicas:
            if replica.rank is None:
                continue
            lent = None
            try:
                lent = self._attached[replica.url].take(deadline)
                return lent.connection.ask(message, deadline)
            except LinkError as failure:
                error = failure
            finally:
                if lent is not None:
                    lent.attachment.drop(lent)
        raise error

    # for lanes

    def enter_lane(self) -> None:
        """One call more may be in flight."""
        self._lanes += 1
        for attachment in self._attached.values():
            attachment.look()

    def attachment(self, url: str) -> Attachment | None:
        """The connections to `url`; None if it was just taken off the list."""
        return self._attached.get(url)

    def burden(self, url: str) -> tuple[int, int]:
        """How busy and how slow the replica at `url` is (`MemoryMap.choose`)."""
        attachment = self._attached.get(url)
        return attachment.burden() if attachment else (0, 0)

    def suspect(self, attachment: Attachment, error: TwofoldError) -> None:
        """A call of it failed: others come first until it answers a ping."""
        self._edit(lambda old: old.suspected(attachment.url, str(error), _now()))
        attachment.look()

    def wait_change(self, seen: MemoryMap, seconds: Seconds) -> None:
        """Until the map is not `seen` any more, or for `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self.map is not seen, seconds)

    def rest(self, seconds: Seconds) -> None:
        """A moment, or until the end."""
        self._ended.wait(seconds)

    # what attachments tell

    def joined(self, attachment: Attachment, connection: Connection, pong: Pong) -> None:
        """It was greeted."""
        with self._changed:
            self._fit(connection)
            self._put(self.map.joined(attachment.url, connection.manifest, connection.held, pong.draining, _now()))

    def answered(self, attachment: Attachment, pong: Pong) -> None:
        """It answered a ping."""
        self._edit(lambda old: old.answered(attachment.url, pong.draining, _now()))

    def lost(self, attachment: Attachment, error: TwofoldError) -> None:
        """It cannot be used."""
        self._logger.info("%s: %s", attachment.url, error)
        self._edit(lambda old: old.lost(attachment.url, str(error), _now()))

    def lanes(self) -> int:
        """How many calls may be in flight at once."""
        return self._lanes

    def _fit(self, connection: Connection) -> None:
        """Lay the rows out for the smallest calls that a replica takes, as long as nobody uses the layout."""
        limits = (connection.layout.rows, connection.layout.head_rows)
        known = (self._layout.rows, self._layout.head_rows) if self._layout else limits
        smallest = (min(limits[0], known[0]), min(limits[1], known[1]))
        if smallest != known and self._started:
            raise Refused(f"{connection.peer} takes {limits} rows a call, less than the {known} in use; start again")
        if smallest != known or self._layout is None:
            self._layout = Layout(connection.manifest, rows=smallest[0], head_rows=smallest[1])

    def _edit(self, change: Callable[[MemoryMap], MemoryMap]) -> None:
        with self._changed:
            self._put(change(self.map))

    def _put(self, new: MemoryMap) -> MemoryMap:
        """`new` in the place of the map; whoever waits for that is told. The lock is held."""
        if new is not self.map:
            self.map = new
            self._changed.notify_all()
        return new

    def _wait_joined(self, expiry: float) -> None:
        """Until every segment can be called; raises if that will not be."""
        while True:
            seen = self.map
            joining = any(replica.state is State.JOINING for replica in seen.replicas)
            left = expiry - time.monotonic()
            with self._changed:
                if seen.manifest is not None and self._layout is not None and not seen.missing:
                    self.manifest, self.layout, self._started = seen.manifest, self._layout, True
                    return
            if not joining or left <= 0:
                self._give_up(seen)
            self.wait_change(seen, Seconds(left))

    def _give_up(self, seen: MemoryMap) -> None:
        if seen.manifest is None:
            errors = [attachment.error for attachment in self._attached.values() if attachment.error]
            raise errors[0] if errors else Unreachable("no weight processor was named, or none answered in time")
        seen.check()

    def _follow(self, path: Path, read: Read) -> None:
        before = None
        while not self._ended.wait(GLANCE):
            with suppress(OSError):  # a file that is gone for a moment is no order to leave everybody
                status = path.stat()
                signature = (status.st_mtime_ns, status.st_size, status.st_ino)
                if signature != before:
                    before = signature
                    self._relist(path, read)

    def _relist(self, path: Path, read: Read) -> None:
        try:
            self.list(read(path))
        except TwofoldError as error:
            self._logger.warning("%s; the replicas stay as they are", error)


def _end(attachments: Collection[Attachment]) -> None:
    for attachment in attachments:
        attachment.end()
    for attachment in attachments:
        attachment.wait_ended(END_SECONDS)


def _now() -> Seconds:
    return Seconds(time.monotonic())
