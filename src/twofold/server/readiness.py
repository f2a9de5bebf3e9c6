"""Whether the model can be asked: loading, then ready, then draining. Times are arguments."""

from collections.abc import Mapping

from twofold.server.refusal import Refusal
from twofold.server.served import Served
from twofold.units import Seconds

RETRY_SECONDS = Seconds(2.0)
STAGES = {
    "check": "checking the file", "download": "downloading", "verify": "verifying", "unpack": "unpacking",
    "load": "loading the weights", "start": "starting the weight processor",
}  # fmt: skip


class Readiness:
    """One model on its way up, in service, and on its way down.

    The loading thread says `progress` and `ready`; a signal says `drain`; the event loop asks. Each writes one
    attribute whole, so nobody needs a lock.
    """

    def __init__(self) -> None:
        self.in_hand = 0  # requests that have no answer yet
        self.served: Served | None = None  # who answers, once the model is loaded
        self._progress = ("start", 0, 0)
        self._draining_since: float | None = None

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` bytes of a stage of loading."""
        self._progress = (stage, done, total)

    def ready(self, serving: Served) -> None:
        """From now on, requests are answered by `serving`."""
        self.served = serving

    def drain(self, now: float) -> None:
        """From now on, no request is taken."""
        self._draining_since = now

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered."""
        return self.served is not None and not self.draining

    @property
    def loading(self) -> bool:
        """Whether the model is on its way up."""
        return self.served is None

    @property
    def draining(self) -> bool:
        """Whether it was told to end."""
        return self._draining_since is not None

    def drained(self, now: float, patience: Seconds) -> bool:
        """Whether it may end: told to, and nothing is in hand any more or it took longer than `patience`."""
        since = self._draining_since
        return since is not None and (self.in_hand == 0 or now - since >= patience)

    @property
    def serving(self) -> Served:
        """Who answers; Refusal 503 if nobody does, which says how far loading is."""
        if self.draining:
            raise Refusal(503, "the server is ending; ask another", code="draining", retry_after=RETRY_SECONDS)
        if self.served is None:
            more = self.state()
            text = f"the model is not ready yet ({_told(*self._progress)}); try again soon"
            raise Refusal(503, text, code="loading", retry_after=RETRY_SECONDS, more={"progress": more})
        return self.served

    def state(self) -> Mapping[str, object]:
        """For `/readyz`."""
        if self.draining:
            return {"status": "draining", "in_hand": self.in_hand}
        if self.served is not None:
            return {"status": "ready"}
        stage, done, total = self._progress
        return {"status": "loading", "stage": stage, "done_bytes": done, "total_bytes": total}


def _told(stage: str, done: int, total: int) -> str:
    share = f", {100 * done // total} %" if total else ""
    return f"{STAGES.get(stage, stage)}{share}"
