"""What the scheduler knows of a request under way, and what it says is to be done next."""

from dataclasses import dataclass, field

from twofold.cache.prefix import page_keys
from twofold.units import Seconds

PATIENCE = Seconds(60.0)
STALL = Seconds(0.05)


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much there is room for."""

    context_length: int  # positions of one stream
    rows: int = 256  # of a step
    heads: int = 32  # rows of a step whose logits are wanted
    running: int = 64  # streams that hold pages
    waiting: int = 256  # streams that do not
    outside_pages: int = 0  # of streams that had to make room, kept outside the pool
    patience: Seconds = PATIENCE  # the longest wait that is promised
    stall: Seconds = STALL  # how long a step may take in which streams decode


@dataclass(eq=False, slots=True)
class Stream:
    """A request under way: `tokens` are its prompt and what was chosen since.

    Its session has seen the first of them; the rest is fed, and when all is seen, the next is chosen. So a stream that
    decodes is one with one token left, and a stream that lost its pages is one with many left.
    """

    number: int
    owner: str
    priority: int
    tokens: list[int]
    most: int  # tokens it may be given
    arrived: Seconds
    prompt: int = 0  # tokens of the prompt
    session: int | None = None
    turn: int = 0  # its last token among all that were chosen
    computed: int = 0  # rows it was fed before its first token
    shared: int = 0  # pages that it gave to the prefix tree
    outside: int = 0  # pages that are kept for it outside the pool
    seen: int = 0  # positions in those
    private: bool = False  # it began with pages that were not computed here, which nobody else shall go on from
    begun: Seconds | None = None
    keys: list[bytes] = field(default_factory=list)  # of the whole pages of `tokens`
    chain: list[int] = field(default_factory=list)  # for each, a number that stands for all up to it

    def __post_init__(self) -> None:
        """Take what is there as the prompt."""
        self.prompt = len(self.tokens)
        self.learn()

    @property
    def given(self) -> int:
        """Tokens chosen so far."""
        return len(self.tokens) - self.prompt

    @property
    def cached(self) -> int:
        """Once a token was chosen: tokens of the prompt that were not computed, as they had been seen before."""
        return max(0, self.prompt - self.computed)

    def learn(self) -> None:
        """Make the keys of pages that the tokens have filled."""
        for key in page_keys(self.tokens, len(self.keys)):
            self.keys.append(key)
            self.chain.append(hash((self.chain[-1] if self.chain else 0, key)))


@dataclass(frozen=True, slots=True)
class Move:
    """Bytes to be copied before the step, in order: a stream's pages out of the pool, or into it again."""

    number: int
    pages: tuple[int, ...]
    inward: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A stream's rows of a step; the logits of the last are wanted if then all its tokens are seen."""

    number: int
    session: int
    tokens: list[int]
    wanted: bool


@dataclass(slots=True)
class Step:
    """What is to be done next: first the moves, then one step of all parts together."""

    moves: list[Move] = field(default_factory=list)
    parts: dict[int, Part] = field(default_factory=dict)  # by number

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(len(part.tokens) for part in self.parts.values())

    @property
    def decoding(self) -> int:
        """Parts that are one token whose logits are wanted."""
        return sum(part.wanted and len(part.tokens) == 1 for part in self.parts.values())
