"""`twofold pull`: fetch a model before it is needed."""

from twofold.cli import options, show
from twofold.store.catalogue import DEFAULT_MODEL
from twofold.store.digest import forget
from twofold.store.models import resolve
from twofold.store.pull import ensure


def pull(model: options.Model = DEFAULT_MODEL) -> None:
    """Fetch a model and verify it; nothing is done if it is here and right."""
    here = resolve(model)
    if here:
        forget(here)
    with show.ShownProgress() as progress:
        path = ensure(model, progress)
    show.write(f"{path}\n")
