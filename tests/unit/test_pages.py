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


def test_check_notices_a_page_held_twice() -> None:
    table = PageTable(3)
    a, b = table.open(), table.open()
    table.reserve(a, 1)
    table[b].pages.append(table[a].pages[0])
    with pytest.raises(AssertionError, match="held twice"):
        table.check()
