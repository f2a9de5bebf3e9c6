"""Who may connect, and as what. Decides; the time is an argument, the tokens are given to it.

    Hello ──▶ token? known? proved? clock? in force? model? never seen? ──▶ the token's Grant

What only the holder of a token need know is told only after the proof. Where no token is required none is looked at.
"""

import heapq
from collections.abc import Iterable

from twofold.errors import Refused, one_line
from twofold.model.manifest import Manifest
from twofold.store.grant import Grant, Scope, lapse, moment_text
from twofold.units import Seconds
from twofold.wire.message import Hello
from twofold.wire.token import NO_FINGERPRINT, is_proved

CLOCK_SECONDS = Seconds(300.0)  # how far a client's clock may be from ours
REMEMBERED = 1024  # nonces of one token

_ASK = "ask whoever runs the processor for a join link (twofold keys grant NAME) and give it to: twofold join LINK"


class Admission:
    """Admits Hellos by the tokens granted."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._seen: dict[str, Seen] = {}
        self.reload(grants)

    def reload(self, grants: Iterable[Grant]) -> None:
        """Go by `grants` from now on."""
        self._grants = {grant.token: grant for grant in grants}
        self._seen = {token: seen for token, seen in self._seen.items() if token in self._grants}

    def admit(
        self,
        hello: Hello,
        manifest: Manifest,
        *,
        now: float,
        fingerprint: bytes = NO_FINGERPRINT,
    ) -> Grant:
        """The grant that the client of `hello` connects under; Refused with the reason.

        `now`: seconds since 1970. `fingerprint`: of the certificate that the client was shown. A Hello is
        admitted once: a second time it is a replay.
        """
        if not hello.token:
            raise Refused(f"this address asks for a token; {_ASK}")
        grant = self._grants.get(hello.token)
        if grant is None:
            raise Refused(f"token {one_line(hello.token)[:16]} is not known here; {_ASK}")
        if not is_proved(hello, grant.verifier, fingerprint):
            raise Refused(f"the proof of token '{grant.name}' is wrong; {_ASK}")
        client = hello.time / 1e9
        if abs(client - now) > CLOCK_SECONDS:
            raise Refused(
                f"clocks differ by more than {CLOCK_SECONDS / 60:.0f} minutes: client {moment_text(client)}, "
                f"weight processor {moment_text(now)}; set the one that is wrong"
            )
        why = lapse(grant, now) or _wrong_model(grant.scope, manifest)
        if why:
            raise Refused(f"token '{grant.name}' {why}; {_ASK}")
        if not self._seen.setdefault(grant.token, Seen()).is_new(hello, now):
            raise Refused(f"this handshake of token '{grant.name}' was used before; connect anew")
        return grant

    def ended(self, grant: Grant, now: float) -> str | None:
        """Why a connection admitted under `grant` must end at `now` (seconds since 1970), or None."""
        held = self._grants.get(grant.token)
        why = lapse(held, now) if held else "is no longer granted"
        return f"token '{grant.name}' {why}" if why else None


class Seen:
    """The nonces of one token, as long as their Hello could be admitted: bounded, and never forgetful.

    The oldest is dropped when there are too many; from then on no Hello as old as that one is admitted.
    """

    def __init__(self) -> None:
        self._nonces: set[bytes] = set()
        self._by_age: list[tuple[int, bytes]] = []  # a heap
        self._dropped = -(1 << 63)  # nanoseconds since 1970, of the newest dropped

    def is_new(self, hello: Hello, now: float) -> bool:
        """Whether a Hello of these nonce and time was never seen; it is, from now on."""
        if hello.nonce in self._nonces or hello.time <= self._dropped:
            return False
        self._nonces.add(hello.nonce)
        heapq.heappush(self._by_age, (hello.time, hello.nonce))
        while len(self._by_age) > REMEMBERED or self._by_age[0][0] / 1e9 < now - CLOCK_SECONDS:
            self._dropped, nonce = heapq.heappop(self._by_age)
            self._nonces.discard(nonce)
        return True


def _wrong_model(scope: Scope, manifest: Manifest) -> str | None:
    if scope.model is None or manifest.digest.startswith(scope.model):
        return None
    return (
        f"is for model {scope.model[:16]}, "
        f"the weight processor holds {manifest.digest[:16]} ({one_line(manifest.name)})"
    )
