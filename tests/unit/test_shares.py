"""Turns by what was had: nobody gains by leaving, by waiting or by many names that are gone."""

from collections import Counter
from dataclasses import dataclass

import pytest

from twofold.schedule.shares import Shares


@dataclass
class Item:
    owner: str
    name: int = 0


def turns(shares: Shares, items: list[tuple[int, Item]], rows: int = 1) -> list[str]:
    """The owners in turn, each charged so many rows."""
    found = []
    for item in shares.in_turn(items):
        shares.charge(item.owner, rows)
        found.append(item.owner)
    return found


def entered(*owners: str) -> Shares:
    shares = Shares()
    for owner in owners:
        shares.enter(owner)
    return shares


def test_the_owner_who_had_least_is_next() -> None:
    shares = entered("a", "b")
    shares.charge("a", 2)
    items = [(0, Item("a")) for _ in range(4)] + [(0, Item("b")) for _ in range(4)]
    assert "".join(turns(shares, items)) == "bbababaa"


def test_the_more_urgent_goes_before_who_had_less() -> None:
    shares = entered("a", "b")
    shares.charge("a", 100)
    assert turns(shares, [(0, Item("a")), (1, Item("b")), (2, Item("a"))]) == ["a", "b", "a"]


def test_an_owners_own_keep_their_order() -> None:
    shares = entered("a")
    assert [item.name for item in shares.in_turn([(0, Item("a", n)) for n in (3, 1, 2)])] == [3, 1, 2]


def test_leaving_and_coming_back_forgets_nothing_and_staying_away_saves_nothing_up() -> None:
    shares = entered("a", "b")
    shares.charge("a", 50)
    shares.charge("b", 10)
    shares.leave("a")
    shares.enter("a")
    assert shares.had("a") == 50
    shares.leave("b")
    shares.charge("a", 50)
    shares.enter("b")
    assert shares.had("b") == shares.had("a") == 100


def test_owners_that_are_gone_are_forgotten() -> None:
    shares = entered("stays")
    for number in range(1000):
        shares.charge("stays", 1)
        shares.enter(str(number))
        shares.leave(str(number))
    assert len(shares) == 1
    assert len(shares._had) < 5


def test_check_notices_an_owner_that_is_miscounted() -> None:
    shares = entered("a", "a")
    shares.check(Counter(a=2))
    with pytest.raises(AssertionError, match="miscounted"):
        shares.check(Counter(a=1))
