"""A bar is drawn for what takes over a second, and for nothing sooner."""

import io
import sys

import pytest

from twofold.cli import show
from twofold.cli.show import ShownProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal is sent."""
    sent = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    return sent


@pytest.mark.parametrize(("seconds", "drawn"), [(0.9, False), (1.1, True)])
def test_a_bar_with_bytes_is_drawn_from_one_second_on(
    seconds: float, drawn: bool, terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(show, "_now", lambda: now)
    monkeypatch.setattr(sys, "stderr", terminal)  # here, as pytest puts its own in place before every test
    with ShownProgress() as progress:
        progress("load", 0, 4_000_000)
        assert terminal.getvalue() == ""
        now += seconds
        progress("load", 3_000_000, 4_000_000)
    assert ("loading the weights" in terminal.getvalue()) is drawn
    assert ("3.0/4.0 MB" in terminal.getvalue()) is drawn


def test_a_packed_file_of_no_use_is_told_where_no_bar_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = io.StringIO()
    monkeypatch.setattr(sys, "stderr", sent)
    with ShownProgress() as progress:
        progress("stale", 0, 0)
        progress("load", 1, 2)
    assert sent.getvalue() == f"{show.STAGES['stale']} …\n"
