"""An answer comes as it was put, to a thread or an event loop, and ends once."""

import asyncio
import threading

import pytest

from twofold.engine.answer import Answer, wake
from twofold.engine.request import Piece, Usage
from twofold.errors import TwofoldError, Unreachable

PIECES = [Piece(str(number)) for number in range(50)] + [Piece("end", finish="stop")]


def answer() -> Answer:
    return Answer(Usage(), lambda: None)


def put(to: Answer, piece: Piece | TwofoldError) -> None:
    waiter = to.put(piece)
    wake([waiter] if waiter else [])


def putting(to: Answer) -> threading.Thread:
    thread = threading.Thread(target=lambda: [put(to, piece) for piece in PIECES])
    thread.start()
    return thread


def test_a_thread_gets_every_piece_in_order_and_then_the_end() -> None:
    one = answer()
    thread = putting(one)
    assert list(one) == PIECES
    assert list(one) == []
    thread.join()


def test_an_event_loop_gets_every_piece_in_order_and_then_the_end() -> None:
    async def collect() -> list[Piece]:
        return [piece async for piece in one]

    one = answer()
    thread = putting(one)
    assert asyncio.run(collect()) == PIECES
    assert asyncio.run(collect()) == []
    thread.join()


def test_an_error_is_raised_to_who_iterates_after_what_came_before_it() -> None:
    one = answer()
    put(one, PIECES[0])
    put(one, Unreachable("gone"))
    assert next(one) == PIECES[0]
    with pytest.raises(Unreachable, match="gone"):
        next(one)
    assert list(one) == []


def test_an_event_loop_is_woken_once_for_all_its_answers() -> None:
    async def collect() -> int:
        loop, calls = asyncio.get_running_loop(), 0
        real = loop.call_soon_threadsafe

        def counted(*arguments: object) -> object:
            nonlocal calls
            calls += 1
            return real(*arguments)  # type: ignore[arg-type]

        loop.call_soon_threadsafe = counted  # type: ignore[assignment, method-assign]
        answers = [answer() for _ in range(8)]
        tasks = [asyncio.ensure_future(anext(one)) for one in answers]
        while not all(one._waiter for one in answers):
            await asyncio.sleep(0)
        thread = threading.Thread(target=lambda: wake([w for one in answers if (w := one.put(PIECES[0]))]))
        thread.start()
        assert await asyncio.gather(*tasks) == [PIECES[0]] * 8
        thread.join()
        return calls

    assert asyncio.run(collect()) == 1


def test_a_loop_that_is_closed_is_not_woken() -> None:
    one, loop = answer(), asyncio.new_event_loop()
    task = loop.create_task(anext(one))  # type: ignore[arg-type]
    while one._waiter is None:
        loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    put(one, PIECES[-1])
    assert list(one) == PIECES[-1:]
