"""Fixtures of the system tests: tiny models, and weight processors that several tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import missing
from command import start
from tiny_gguf import TinyLlama, write_tiny_llama


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny models: tiny.gguf, other.gguf (other weights), long.gguf (a context of 65536)."""
    folder = tmp_path_factory.mktemp("system")
    write_tiny_llama(folder / "tiny.gguf", TinyLlama())
    write_tiny_llama(folder / "other.gguf", TinyLlama(seed=1))
    write_tiny_llama(folder / "long.gguf", TinyLlama(context_length=1 << 16))
    return folder


@pytest.fixture(scope="session")
def tiny(models: Path) -> Path:
    """A tiny model with a context of 256."""
    return models / "tiny.gguf"


@pytest.fixture(scope="session")
def other(models: Path) -> Path:
    """A model of the same shape with other weights."""
    return models / "other.gguf"


@pytest.fixture(scope="session")
def long(models: Path) -> Path:
    """The weights of `tiny` with a context that takes many seconds to fill."""
    return models / "long.gguf"


@pytest.fixture(scope="session")
def tcp(tiny: Path) -> Iterator[str]:
    """The address of a weight processor of `tiny` over TCP."""
    with start("weights", tiny, "--listen", "tcp://127.0.0.1:0") as running:
        yield running.wait_output(b"\n").decode().split()[1]


@pytest.fixture(scope="session")
def shm(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a weight processor of `tiny` over shared memory."""
    url = f"shm://{tmp_path_factory.mktemp('link')}/weights"
    with start("weights", tiny, "--listen", url) as running:
        yield running.wait_output(b"\n").decode().split()[1]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly that the page was not tested."""
    skipped = [one for one in terminalreporter.stats.get("skipped", ()) if "test_browser" in one.nodeid]
    if skipped:
        terminalreporter.section("NOT TESTED: the page in a browser", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} tests were skipped: no {missing()}")
