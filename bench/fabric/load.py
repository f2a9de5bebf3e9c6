"""A context process under load: `streams`, started, listened to, and ended."""

import contextlib
import signal
import subprocess
import threading

import msgspec

from fabric.processors import Child, Start
from fabric.streams import Told
from twofold.errors import Unreachable

FIRST_SECONDS = 60.0  # until every stream has told its first token
END_SECONDS = 60.0  # for the requests under way when the load ends


class Load(Child):
    """A context manager: so many streams of requests of `tokens` tokens each, and all that they told."""

    def __init__(
        self,
        weights: str,
        *,
        streams: int,
        tokens: int,
        start: Start = subprocess.Popen,
        environment: dict[str, str] | None = None,
    ) -> None:
        super().__init__(
            ["-m", "fabric.streams", weights, str(streams), str(tokens)], start=start, environment=environment
        )
        self.told: list[Told] = []
        self._streams = streams
        self._all_speak = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def begin(self) -> None:
        """Start, and wait until every stream has told its first token; Unreachable if one does not."""
        self.start()
        self._reader.start()
        if not self._all_speak.wait(FIRST_SECONDS) or not self.running:
            raise Unreachable(f"the streams did not begin: {self.last_words()}")

    def finish(self) -> None:
        """Let every stream finish its request; what takes longer than END_SECONDS hangs and is killed."""
        assert self.process.stdin
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        self.signal(signal.SIGKILL)  # its output ends
        self._reader.join()

    @property
    def requests(self) -> int:
        """The number of the latest request that has begun."""
        return self.told[-1].request if self.told else 0

    def rate(self, start: float, end: float) -> float:
        """Tokens a second between two moments of the monotonic clock."""
        return sum(one.token is not None and start <= one.at < end for one in list(self.told)) / (end - start)

    def _read(self) -> None:
        assert self.process.stdout
        speaking: set[int] = set()
        for line in self.process.stdout:
            told = msgspec.json.decode(line, type=Told)
            self.told.append(told)
            if len(speaking) < self._streams:
                speaking.add(told.stream)
                if len(speaking) == self._streams:
                    self._all_speak.set()
        self._all_speak.set()
