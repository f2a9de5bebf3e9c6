"""Where a network of hosts cannot be had, the tests here are skipped, and the end of the output says so and why."""

from collections.abc import Iterator

import pytest
from fabric.hosts import Network, missing

_skipped: list[str] = []


@pytest.fixture
def net() -> Iterator[Network]:
    """A network without hosts."""
    why = missing()
    if why:
        _skipped.append(why)
        pytest.skip(why)
    with Network(seed=1) as network:
        yield network


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tested."""
    if _skipped:
        terminalreporter.section("NOT TESTED: several hosts", red=True, bold=True)
        terminalreporter.line(f"{len(_skipped)} tests over a network were skipped: {_skipped[0]}")
