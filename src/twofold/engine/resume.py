"""A kept context that an answer is to go on with."""

from typing import NamedTuple

from twofold.engine.kept import check_fits
from twofold.errors import ContextError
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
        check_fits(file.head, manifest, name)
        if any(token >= manifest.vocabulary for token in file.tokens):
            raise ContextError(f"the context '{name}' is damaged (it has tokens that the model does not); delete it")
        return Resumed(file.tokens, file.head.length, b"".join(native_page(page).tobytes() for page in file.pages()))
