"""Who may connect, and as what. Decides; the time is an argument, the tokens are given to it.

    Hello ──▶ token? known? proved? clock? in force? model? ──▶ the token's Grant

What only the holder of a token need know is told only after the proof. Where no token is required none is looked at.
"""

from collections.abc import Iterable

from twofold.errors import Refused, one_line
from twofold.model.manifest import Manifest
from twofold.store.grant import Grant, Scope, lapse, moment_text
from twofold.units import Seconds
from twofold.wire.message import Hello
from twofold.wire.token import NO_FINGERPRINT, is_proved

CLOCK_SECONDS = Seconds(300.0)  # how far a client's clock may be from ours

_ASK = "ask whoever runs the processor for a join link (twofold keys grant NAME) and give it to: twofold join LINK"


class Admission:
    """Admits Hellos by the tokens granted."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self.reload(grants)

    def reload(self, grants: Iterable[Grant]) -> None:
        """Go by `grants` from now on."""
        self._grants = {grant.token: grant for grant in grants}

    def admit(
        self,
        hello: Hello,
        manifest: Manifest,
        *,
        now: float,
        nonce: bytes,
        fingerprint: bytes = NO_FINGERPRINT,
    ) -> Grant:
        """The grant that the client of `hello` connects under; Refused with the reason.

        `now`: seconds since 1970. `nonce`: what this connection was challenged with, so that no Hello of another
        is admitted. `fingerprint`: of the certificate that the client was shown.
        """
        if not hello.token:
            raise Refused(f"this address asks for a token; {_ASK}")
        grant = self._grants.get(hello.token)
        if grant is None:
            raise Refused(f"token {one_line(hello.token)[:16]} is not known here; {_ASK}")
        if not is_proved(hello, grant.verifier, fingerprint, nonce):
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
        return grant

    def ended(self, grant: Grant, now: float) -> str | None:
        """Why a connection admitted under `grant` must end at `now` (seconds since 1970), or None."""
        held = self._grants.get(grant.token)
        why = lapse(held, now) if held else "is no longer granted"
        return f"token '{grant.name}' {why}" if why else None


def _wrong_model(scope: Scope, manifest: Manifest) -> str | None:
    if scope.model is None or manifest.digest.startswith(scope.model):
        return None
    return (
        f"is for model {scope.model[:16]}, "
        f"the weight processor holds {manifest.digest[:16]} ({one_line(manifest.name)})"
    )
