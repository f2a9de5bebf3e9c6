"""Sessions that outlive their process: out of context memory into a kept context, and back with the same bits."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from twofold.engine.engine import Engine, Session
from twofold.engine.seen import in_common
from twofold.errors import ContextError, OtherModel, one_line
from twofold.memory.context import ContextMemory
from twofold.model.manifest import Manifest
from twofold.store.context_file import TITLE_LETTERS, ContextFile, Head, LayerShape, Turn
from twofold.store.contexts import Contexts
from twofold.store.grant import UnixSeconds

Clock = Callable[[], float]  # seconds since 1970


def head_of(
    manifest: Manifest,
    *,
    length: int,
    tokens: int,
    turns: Sequence[Turn] | None,
    created: UnixSeconds,
    saved: UnixSeconds,
) -> Head:
    """What the context file of a session of this model says of itself."""
    return Head(
        model=manifest.digest,
        model_name=manifest.name[:TITLE_LETTERS],
        numerics=manifest.numerics,
        layers=_shapes(manifest),
        length=length,
        tokens=tokens,
        created=created,
        saved=saved,
        title=_title(turns),
        turns=None if turns is None else tuple(turns),
    )


def check_fits(head: Head, manifest: Manifest, name: str) -> None:
    """OtherModel that says how the context `name` differs from what this model's sessions are, or ContextError."""
    if head.model != manifest.digest:
        raise OtherModel(
            f"the context '{name}' is of {one_line(head.model_name)} (digest {head.model[:12]}…), not of "
            f"{one_line(manifest.name)} ({manifest.digest[:12]}…); use that model, or another context"
        )
    if head.numerics != manifest.numerics:
        raise OtherModel(
            f"the context '{name}' was made with numerics {head.numerics}, here it is {manifest.numerics}, which would "
            "give other bits; use the Twofold that made it, or begin anew"
        )
    if head.layers != _shapes(manifest):
        raise ContextError(f"the context '{name}' is damaged (its layers are not the model's); delete it")


def checked_tokens(file: ContextFile, manifest: Manifest, name: str) -> list[int]:
    """All tokens of the context `name`; ContextError if it is not one of this model, or damaged."""
    check_fits(file.head, manifest, name)
    if any(token >= manifest.vocabulary for token in file.tokens):
        raise ContextError(f"the context '{name}' is damaged (it has tokens that the model does not); delete it")
    return file.tokens


def restore(memory: ContextMemory, file: ContextFile, name: str) -> tuple[int, list[int]]:
    """A session in `memory` that has seen what `file` holds: its number, and all tokens of the file.

    ContextError if the file is of another model or other numerics, or damaged; RequestError if there is no room. No
    session is left then.
    """
    tokens = checked_tokens(file, memory.manifest, name)
    return memory.pages_in(file.pages(), file.head.length), tokens


def unseen(engine: Engine, session: Session, tokens: list[int]) -> list[int]:
    """What of `tokens` the session has not seen, at least the last; what it saw that is not in them is rewound."""
    same = in_common(tokens, session.tokens)
    engine.rewind(session, same)
    return tokens[same:]


class Entry:
    """What is kept under a name, as whoever holds it knows it; `turns`: the messages, None for plain text."""

    def __init__(self, contexts: Contexts, name: str, manifest: Manifest, clock: Clock) -> None:
        """Nothing is kept so far."""
        self.name = name
        self.turns: list[Turn] | None = []
        self._contexts, self._manifest, self._clock = contexts, manifest, clock
        self._created = UnixSeconds(int(clock()))

    def go_on(self, head: Head) -> None:
        """It was kept already, and this is what its file says of itself."""
        self.turns = None if head.turns is None else list(head.turns)
        self._created = head.created

    def put(self, tokens: Sequence[int], length: int, pages: Iterable[bytes]) -> None:
        """Keep `tokens`, whose `length` first are in `pages`; ContextsFull leaves what was kept before."""
        head = head_of(
            self._manifest,
            length=length,
            tokens=len(tokens),
            turns=self.turns,
            created=self._created,
            saved=UnixSeconds(int(self._clock())),
        )
        self._contexts.put(self.name, head, tokens, pages)


class Keeper(Entry):
    """One session and the name it is kept under, which nobody else may use meanwhile.

    `pending`: tokens that belong to the text but that no step has seen.
    """

    def __init__(self, engine: Engine, contexts: Contexts, name: str, clock: Clock) -> None:
        """Go on where the context `name` ends, if there is one; for who holds `name`. Errors as `restore`."""
        super().__init__(contexts, name, engine.manifest, clock)
        self._engine = engine
        self.pending: list[int] = []
        self.session = self._loaded() if contexts.exists(name) else engine.open()

    @property
    def new(self) -> bool:
        """Whether nothing is in it yet, so that it can become a conversation or plain text."""
        return not self.session.tokens and not self.turns and not self.pending

    def keep(self) -> None:
        """Keep the session as it is now. Errors as `put`."""
        seen = self.session.tokens
        self.put(seen + self.pending, len(seen), self._engine.context.pages_out(self.session.number))

    def _loaded(self) -> Session:
        with self._contexts.read(self.name) as file:
            number, tokens = restore(self._engine.context, file, self.name)
            self.go_on(file.head)
        session = Session(number)
        session.tokens, self.pending = tokens[: file.head.length], tokens[file.head.length :]
        return session


@contextlib.contextmanager
def kept(engine: Engine, contexts: Contexts, name: str, clock: Clock) -> Iterator[Keeper]:
    """A session that goes on with the context `name` if there is one; inside, nobody else uses it.

    Errors as `Contexts.hold` and `restore`.
    """
    with contexts.hold(name):
        keeper = Keeper(engine, contexts, name, clock)
        try:
            yield keeper
        finally:
            engine.close(keeper.session)


def _shapes(manifest: Manifest) -> tuple[LayerShape, ...]:
    return tuple(LayerShape(layer.kv_heads, layer.head_dim) for layer in manifest.layers)


def _title(turns: Sequence[Turn] | None) -> str:
    """How the first thing that a user said begins, on one line."""
    said = next((turn.content for turn in turns or () if turn.role == "user" and turn.content), "")
    return one_line(said[: 4 * TITLE_LETTERS])[:TITLE_LETTERS]
