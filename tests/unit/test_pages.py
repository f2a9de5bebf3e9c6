"""The page table: nothing lost, nothing held twice, whatever happens in whatever order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from twofold.cache.pages import PAGE_POSITIONS, PageTable
from twofold.errors import RequestError


class PageTableMachine(RuleBasedStateMachine):
    """Opens, grows, truncates and closes sessions at random, beside a model of plain lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.table = PageTable(12)
        self.lengths: dict[int, int] = {}

    @rule()
    def open(self) -> None:
        session = self.table.open()
        assert session not in self.lengths
        self.lengths[session] = 0

    @rule(data=st.data(), count=st.integers(1, 300))
    def grow(self, data: st.DataObject, count: int) -> None:
        if not self.lengths:
            return
        session = data.draw(st.sampled_from(sorted(self.lengths)))
        free = self.table.free_pages
        needed = -(-(self.lengths[session] + count) // PAGE_POSITIONS) - len(self.table[session].pages)
        if needed > free:
            with pytest.raises(RequestError, match="context memory is full"):
                self.table.reserve(session, count)
            assert self.table.free_pages == free
        else:
            self.table.reserve(session, count)
            if data.draw(st.booleans()):  # else the step failed half way
                self.table.advance(session, count)
                self.lengths[session] += count

    @rule(data=st.data(), length=st.integers(0, 500))
    def truncate(self, data: st.DataObject, length: int) -> None:
        if self.lengths:
            session = data.draw(st.sampled_from(sorted(self.lengths)))
            self.table.truncate(session, length)
            self.lengths[session] = min(length, self.lengths[session])

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        if self.lengths:
            session = data.draw(st.sampled_from(sorted(self.lengths)))
            self.table.close(session)
            del self.lengths[session]

    @invariant()
    def nothing_is_lost(self) -> None:
        self.table.check()
        assert all(self.table[session].length == length for session, length in self.lengths.items())


TestPageTable = PageTableMachine.TestCase
TestPageTable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def filled(table: PageTable, count: int) -> int:
    session = table.open()
    table.reserve(session, count)
    table.advance(session, count)
    return session


def test_a_full_page_of_many_is_free_when_the_last_lets_go() -> None:
    table = PageTable(4)
    one = filled(table, 2 * PAGE_POSITIONS)
    two = table.open()
    table.adopt(two, table[one].pages[:1])
    table.close(one)
    assert (table[two].length, table.free_pages) == (PAGE_POSITIONS, 3)
    table.close(two)
    assert table.free_pages == 4
    table.check()


def test_a_kept_page_is_idle_when_nobody_holds_it_and_free_when_it_is_dropped() -> None:
    table = PageTable(2)
    session = filled(table, PAGE_POSITIONS)
    (page,) = table[session].pages
    table.keep(page)
    assert table.idle_pages == 0
    table.close(session)
    assert (table.idle_pages, table.free_pages) == (1, 1)
    again = table.open()
    table.adopt(again, [page])
    assert table.idle_pages == 0
    table.close(again)
    table.drop(page)
    assert (table.idle_pages, table.free_pages) == (0, 2)
    table.check()


def test_a_session_that_ends_inside_a_shared_page_gets_one_of_its_own() -> None:
    table = PageTable(3)
    one = filled(table, PAGE_POSITIONS)
    two = table.open()
    table.adopt(two, table[one].pages)
    copied = table.truncate(two, 10)
    assert copied == (table[one].pages[0], table[two].pages[0])
    assert copied[0] != copied[1]
    table.check()
    assert table.truncate(two, 5) is None


def test_a_session_that_would_need_a_copy_stays_as_it_was_if_no_page_is_free() -> None:
    table = PageTable(1)
    one = filled(table, PAGE_POSITIONS)
    two = table.open()
    table.adopt(two, table[one].pages)
    with pytest.raises(RequestError, match="context memory is full"):
        table.truncate(two, 10)
    assert table[two].length == PAGE_POSITIONS
    table.check()


def test_adopting_gives_back_what_was_reserved_in_vain() -> None:
    table = PageTable(4)
    one = filled(table, PAGE_POSITIONS)
    two = table.open()
    table.reserve(two, 2 * PAGE_POSITIONS)
    table.adopt(two, table[one].pages)
    assert (table[two].pages, table.free_pages) == (table[one].pages, 3)
    table.check()


def test_check_notices_a_page_held_behind_its_back() -> None:
    table = PageTable(3)
    one, two = table.open(), table.open()
    table.reserve(one, 1)
    table[two].pages.append(table[one].pages[0])
    with pytest.raises(AssertionError, match="held by others"):
        table.check()


def test_check_notices_a_shared_page_that_is_not_full() -> None:
    table = PageTable(3)
    one, two = filled(table, PAGE_POSITIONS), table.open()
    table.adopt(two, table[one].pages)
    table[two].length -= 1
    with pytest.raises(AssertionError, match="not full"):
        table.check()
