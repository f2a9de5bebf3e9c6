"""`twofold rm`: delete a fetched model."""

from twofold.cli import options, show
from twofold.store.models import remove


def rm(model: options.Model) -> None:
    """Delete a fetched model from the cache."""
    show.write(f"{model} removed\n" if remove(model) else f"{model} is not here; nothing to remove\n")
