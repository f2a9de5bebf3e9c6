"""A kept context that an answer is to go on with."""

from typing import NamedTuple

from twofold.engine.kept import checked_tokens
from twofold.memory.page import native_page
from twofold.model.manifest import Manifest
from twofold.store.contexts import Contexts


class Resumed(NamedTuple):
    """What was seen before: the `length` first of `tokens` are in `pages`, bytes as `ContextMemory.read` gives them."""

    tokens: list[int]
    length: int
    pages: bytes


def resumed(contexts: Contexts, name: str, manifest: Manifest) -> Resumed:
    """The context that is kept under `name`; ContextError if it is none, damaged, or not of this model."""
    with contexts.read(name) as file:
        tokens = checked_tokens(file, manifest, name)
        return Resumed(tokens, file.head.length, b"".join(native_page(page).tobytes() for page in file.pages()))
