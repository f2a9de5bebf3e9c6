"""Sends requests at their times, never more than so many at once."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from traffic.work import Asked

Became = TypeVar("Became")


async def play(asked: Sequence[Asked], send: Callable[[Asked], Awaitable[Became]], most: int | None) -> list[Became]:
    """What became of each. Whoever would be one too many waits for an answer in hand to end, and is sent then."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    room = contextlib.nullcontext() if most is None else asyncio.Semaphore(most)

    async def one(request: Asked) -> Became:
        await asyncio.sleep(max(start + request.at - loop.time(), 0))
        async with room:
            return await send(request)

    return list(await asyncio.gather(*map(one, asked)))
