"""What context memory has seen before: beginnings of token sequences, and the pages that hold them.

A radix tree over token ids whose every edge is the tokens of one whole page, so a node is a page:

    root ──64 tokens──▶ page 7 ──64 tokens──▶ page 3
                          └─────64 tokens──▶ page 9

A page's bytes are a function of the tokens up to its end alone, bit for bit: whoever begins with them may go on from
it, and of two pages with the same tokens one can go. Whoever holds a page of the tree holds all before it, so
what is idle is always a whole branch. The branch that was not used for longest is given back first, from its leaves.
"""

from array import array
from collections.abc import Sequence

from twofold.cache.pages import PAGE_POSITIONS, PageTable


def page_keys(tokens: Sequence[int], done: int = 0) -> list[bytes]:
    """The edges for the whole pages of `tokens`, from page `done` on."""
    ends = range((done + 1) * PAGE_POSITIONS, len(tokens) + 1, PAGE_POSITIONS)
    return [array("i", tokens[end - PAGE_POSITIONS : end]).tobytes() for end in ends]


class Node:
    """A page after what its parent holds."""

    def __init__(self, page: int, key: bytes, parent: "Node | None") -> None:
        self.page, self.key, self.parent = page, key, parent
        self.children: dict[bytes, Node] = {}


class PrefixTree:
    """The pages of `table` kept for whoever begins with the same tokens. `check()` recomputes its invariants."""

    def __init__(self, table: PageTable) -> None:
        self.table = table
        self._root = Node(-1, b"", None)
        self._nodes: dict[int, Node] = {}  # by page; the least recently used first, and children before their parents

    def __len__(self) -> int:
        return len(self._nodes)

    def match(self, keys: Sequence[bytes]) -> list[int]:
        """The pages of the longest known beginning of `keys`."""
        path: list[Node] = []
        node = self._root
        for key in keys:
            following = node.children.get(key)
            if following is None:
                break
            path.append(node := following)
        self._use(path)
        return [node.page for node in path]

    def share(self, session: int, keys: Sequence[bytes]) -> None:
        """Keep the first len(keys) pages of `session`, which are full; where they are known, it gets the known ones."""
        path: list[Node] = []
        node = self._root
        for index, key in enumerate(keys):
            following = node.children.get(key)
            if following is None:
                page = self.table[session].pages[index]
                self.table.keep(page)
                following = node.children[key] = self._nodes[page] = Node(page, key, node)
            else:
                self.table.exchange(session, index, following.page)
            path.append(node := following)
        self._use(path)

    def give_back(self, count: int) -> None:
        """Free `count` pages that no session holds, or as many as there are."""
        gone: list[Node] = []
        for page, node in self._nodes.items():
            if len(gone) == count:
                break
            if not node.children and self.table.idle(page):
                gone.append(node)
                assert node.parent is not None
                del node.parent.children[node.key]
        for node in gone:
            del self._nodes[node.page]
            self.table.drop(node.page)

    def check(self) -> None:
        """Raise AssertionError unless nodes, pages and order fit together."""
        self.table.check()
        place = {page: index for index, page in enumerate(self._nodes)}
        for page, node in self._nodes.items():
            above = node.parent
            assert above is not None
            assert above.children.get(node.key) is node, "a node is not where its parent looks"
            assert node.page == page
            if above is not self._root:
                assert place[page] < place[above.page], "a parent was used before its child"
                assert self.table.idle(page) or not self.table.idle(above.page), "a page is held and not the one before"
        found = sum(len(node.children) for node in (self._root, *self._nodes.values()))
        assert found == len(self._nodes), "a node is lost"

    def _use(self, path: Sequence[Node]) -> None:
        for node in reversed(path):
            self._nodes[node.page] = self._nodes.pop(node.page)
