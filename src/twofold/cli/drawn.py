"""What is drawn: tables and progress bars. Apart from `show.py`, because most starts draw nothing."""

from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from twofold.cli.show import write

TABLE_WIDTH = 132  # columns


class Bar:
    """A bar on standard error from now until `stop`, which takes it away."""

    def __init__(self, what: str) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._progress.start()
        self._task = self._progress.add_task(what, total=None)

    def update(self, done: int, total: int) -> None:
        """`done` of `total` bytes; a total of 0 is not known."""
        self._progress.update(self._task, completed=done, total=total or None)

    def stop(self) -> None:
        """Take it away."""
        self._progress.stop()


def render(*parts: RenderableType) -> None:
    """Tables and marked-up text to standard output, wide enough where no terminal sets the width."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, TABLE_WIDTH)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    write(captured.get())
