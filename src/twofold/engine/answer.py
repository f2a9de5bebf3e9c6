"""An answer under way: pieces come from the engine's thread and go to a thread or an event loop that waits."""

import asyncio
import functools
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from twofold.engine.request import Piece, Usage
from twofold.engine.seen import Seen
from twofold.errors import TwofoldError

Loop = asyncio.AbstractEventLoop
Waiter = tuple[Loop | None, Callable[[], object]]  # what ends the wait; in its event loop, if it has one


class Answer:
    """Iterate for its pieces, with `for` or `async for`; the last one has a `finish`.

    An error of the engine is raised to whoever iterates. `usage` is right once the last piece has come. `left` is there
    then if it was asked for and the answer is complete: all that was seen, but for the last token.
    """

    def __init__(self, usage: Usage, cancel: Callable[[], None]) -> None:
        """`cancel`: what to do when nobody wants the rest; from any thread, as often as one likes."""
        self.usage, self.cancel = usage, cancel
        self.left: Seen | None = None
        self._lock = threading.Lock()
        self._pieces: deque[Piece | TwofoldError] = deque()
        self._waiter: Waiter | None = None
        self._over = False

    def put(self, piece: Piece | TwofoldError) -> Waiter | None:
        """One more piece, or why there are none; returns who is to be woken, by `wake`."""
        with self._lock:
            self._pieces.append(piece)
            waiter, self._waiter = self._waiter, None
        return waiter

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        while not self._over:
            ready = threading.Event()
            if (piece := self._take((None, ready.set))) is not None:
                return self._given(piece)
            ready.wait()
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        while not self._over:
            if self._pieces:  # whoever iterates is alone in taking them
                return self._given(self._pieces.popleft())
            loop = asyncio.get_running_loop()
            ready = loop.create_future()
            if (piece := self._take((loop, functools.partial(_ready, ready)))) is not None:
                return self._given(piece)
            await ready
        raise StopAsyncIteration

    def _take(self, waiter: Waiter) -> Piece | TwofoldError | None:
        with self._lock:
            if self._pieces:
                return self._pieces.popleft()
            self._waiter = waiter
            return None

    def _given(self, piece: Piece | TwofoldError) -> Piece:
        if isinstance(piece, TwofoldError):
            self._over = True
            raise piece
        self._over = piece.finish is not None
        return piece


def _ready(future: asyncio.Future[None]) -> None:
    """End the wait; whoever waited may have given up meanwhile."""
    if not future.done():
        future.set_result(None)


def wake(waiters: Iterable[Waiter]) -> None:
    """Wake all of them, each event loop once."""
    calls: dict[Loop, list[Callable[[], object]]] = {}
    for loop, call in waiters:
        if loop is None:
            call()
        elif not loop.is_closed():
            calls.setdefault(loop, []).append(call)
    for loop, of_loop in calls.items():
        loop.call_soon_threadsafe(_call_all, of_loop)


def _call_all(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()
