"""What a weight processor answers when it is asked how it does."""

from collections import Counter
from collections.abc import Sequence

from twofold.processor.guest import Guest
from twofold.units import Nanoseconds
from twofold.wire.message import Welcome
from twofold.wire.status import Counts, Status


def status_of(
    welcome: Welcome,
    guests: Sequence[Guest],
    counts: Counts,
    waiting: int,
    *,
    uptime: Nanoseconds,
    draining: bool,
    names: bool,
    expert_rows: dict[int, tuple[int, ...]],
) -> Status:
    """The Status of a processor that welcomes with `welcome`; `names`: those of the tokens are to be in it."""
    greeted = [guest for guest in guests if guest.greeted]
    tokens = Counter(guest.grant.name for guest in greeted if guest.grant) if names else {}
    return Status(
        title=welcome.title,
        digest=welcome.manifest.digest,
        segments=welcome.segments,
        pid=welcome.pid,
        uptime=uptime,
        draining=draining,
        connections=len(greeted),
        owners=len({guest.owner for guest in greeted}),
        tokens=dict(tokens),
        waiting=waiting,
        counts=counts,
        expert_rows=expert_rows,
    )
