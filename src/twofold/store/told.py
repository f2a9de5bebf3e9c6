"""What is told of a kept context, to programs, by the verbs and over HTTP."""

import msgspec
from msgspec import UNSET, UnsetType

from twofold.store.contexts import Kept


class ModelTold(msgspec.Struct, frozen=True):
    """The model that it goes on with."""

    name: str
    digest: str
    numerics: int


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One context; of a damaged one is known what the folder says. Times are in seconds since 1970.

    `tokens` were said, of which `positions` are in the pages; `messages`: how many, null for plain text.
    """

    name: str
    damaged: bool
    size_bytes: int
    used: int
    pinned: bool
    model: ModelTold | UnsetType = UNSET
    title: str | UnsetType = UNSET
    tokens: int | UnsetType = UNSET
    positions: int | UnsetType = UNSET
    messages: int | UnsetType | None = UNSET
    created: int | UnsetType = UNSET
    saved: int | UnsetType = UNSET


def told(kept: Kept) -> Told:
    """What is told of `kept`."""
    head = kept.head
    place = Told(
        name=kept.name, damaged=head is None, size_bytes=kept.size_bytes, used=int(kept.used), pinned=kept.pinned
    )
    if head is None:
        return place
    return msgspec.structs.replace(
        place,
        model=ModelTold(head.model_name, head.model, head.numerics),
        title=head.title,
        tokens=head.tokens,
        positions=head.length,
        messages=None if head.turns is None else len(head.turns),
        created=head.created,
        saved=head.saved,
    )
