"""The prefix tree: what it hands out is what was asked for, and the oldest branch goes first, from its leaves."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twofold.cache.pages import PAGE_POSITIONS, PageTable
from twofold.cache.prefix import PrefixTree, page_keys

PAGES = 16
WORDS = st.lists(st.integers(0, 1), max_size=5)  # a word is a page of one token over and over


def tokens_of(words: list[int], rest: int = 0) -> list[int]:
    return [word for word in words for _ in range(PAGE_POSITIONS)] + [7] * rest


def test_the_keys_are_of_whole_pages_and_can_be_had_bit_by_bit() -> None:
    tokens = list(range(3 * PAGE_POSITIONS + 5))
    keys = page_keys(tokens)
    assert len(keys) == len(set(keys)) == 3
    assert page_keys(tokens, 2) == keys[2:]
    assert page_keys(tokens[:63]) == []
    assert page_keys([1] * 64) != page_keys([1] * 63 + [2])


class PrefixMachine(RuleBasedStateMachine):
    """Sessions begin with what is known, grow, share, shrink and end, beside a model that knows every page's tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = PageTable(PAGES)
        self.tree = PrefixTree(self.table)
        self.tokens: dict[int, list[int]] = {}
        self.shared: dict[int, int] = {}  # by session: how many of its pages others may have
        self.written: dict[int, list[int]] = {}  # by page: the tokens up to the end of what is in it
        self.known: dict[bytes, int] = {}  # by all keys up to a page, joined: when it was used
        self.tick = 0

    def use(self, keys: list[bytes]) -> None:
        for depth in range(len(keys), 0, -1):
            self.tick += 1
            self.known[b"".join(keys[:depth])] = self.tick

    def held(self) -> set[bytes]:
        shared = [page_keys(tokens)[: self.shared[session]] for session, tokens in self.tokens.items()]
        return {b"".join(keys[:depth]) for keys in shared for depth in range(1, len(keys) + 1)}

    def grow(self, session: int, tokens: list[int]) -> None:
        if self.table.missing(session, len(tokens)) > self.table.free_pages:
            return
        self.table.reserve(session, len(tokens))
        self.table.advance(session, len(tokens))
        self.tokens[session] += tokens
        sequence = self.table[session]
        for index, page in enumerate(sequence.pages):
            now = self.tokens[session][: (index + 1) * PAGE_POSITIONS]
            if self.written.get(page) != now:
                assert not self.tree_has(page), "a page that is shared is written"
                self.written[page] = now

    def tree_has(self, page: int) -> bool:
        return page in self.tree._nodes

    @rule(words=WORDS, rest=st.integers(0, 70))
    def begin(self, words: list[int], rest: int) -> None:
        tokens = tokens_of(words, rest)
        keys = page_keys(tokens)
        session = self.table.open()
        pages = self.tree.match(keys)
        expected = next(d for d in range(len(keys), -1, -1) if d == 0 or b"".join(keys[:d]) in self.known)
        assert len(pages) == expected
        self.use(keys[:expected])
        self.table.adopt(session, pages)
        self.shared[session] = len(pages)
        length = len(pages) * PAGE_POSITIONS
        self.tokens[session] = tokens[:length]
        self.grow(session, tokens[length:])

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), words=WORDS)
    def more(self, data: st.DataObject, words: list[int]) -> None:
        self.grow(data.draw(st.sampled_from(sorted(self.tokens))), tokens_of(words, 1))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.tokens)))
        keys = page_keys(self.tokens[session])
        self.tree.share(session, keys)
        self.shared[session] = len(keys)
        self.use(keys)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), length=st.integers(0, 300))
    def shrink(self, data: st.DataObject, length: int) -> None:
        session = data.draw(st.sampled_from(sorted(self.tokens)))
        if self.table.free_pages:
            copied = self.table.truncate(session, length)
            if copied is not None:
                self.written[copied[1]] = self.written[copied[0]]
            self.tokens[session] = self.tokens[session][:length]
            self.shared[session] = min(self.shared[session], length // PAGE_POSITIONS)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.tokens)))
        self.table.close(session)
        del self.tokens[session]

    @rule(count=st.integers(1, PAGES))
    def give_back(self, count: int) -> None:
        self.tree.give_back(count)
        for _ in range(count):
            held = self.held()
            leaves = [one for one in self.known if one not in held and not self.has_more(one)]
            if not leaves:
                break
            del self.known[min(leaves, key=self.known.__getitem__)]

    def has_more(self, one: bytes) -> bool:
        return any(other.startswith(one) and len(other) > len(one) for other in self.known)

    @invariant()
    def every_session_finds_its_own_tokens(self) -> None:
        self.tree.check()
        assert len(self.tree) == len(self.known)
        for session, tokens in self.tokens.items():
            sequence = self.table[session]
            assert sequence.length == len(tokens)
            for index, page in enumerate(sequence.pages):
                end = min(len(tokens), (index + 1) * PAGE_POSITIONS)
                assert self.written[page][:end] == tokens[:end]


TestPrefixTree = PrefixMachine.TestCase
TestPrefixTree.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def grown(table: PageTable, tree: PrefixTree, words: list[int]) -> int:
    session = table.open()
    table.reserve(session, len(words) * PAGE_POSITIONS)
    table.advance(session, len(words) * PAGE_POSITIONS)
    tree.share(session, page_keys(tokens_of(words)))
    return session


def test_what_two_sessions_computed_alike_is_held_once() -> None:
    table = PageTable(8)
    tree = PrefixTree(table)
    one, two = grown(table, tree, [1, 2]), grown(table, tree, [1, 3])
    assert table[one].pages[0] == table[two].pages[0]
    assert table.free_pages == 8 - 3
    tree.check()


def test_check_notices_a_page_that_is_held_without_the_one_before() -> None:
    table = PageTable(8)
    tree = PrefixTree(table)
    one = grown(table, tree, [1, 2])
    other = table.open()
    table.adopt(other, table[one].pages[1:])
    table.close(one)
    with pytest.raises(AssertionError, match="not the one before"):
        tree.check()
