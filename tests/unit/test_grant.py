import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.store.grant import LAST_MOMENT, Grant, Invitation, Scope, Token, duration, lapse, moment_text

SECRET = bytes(range(32))
TOKEN = Token("00112233aabbccdd", SECRET)
GRANT = Grant("laptop", TOKEN.id, bytes(32), Scope(expires=1000), granted=10)


def test_no_text_of_a_token_or_invitation_shows_the_secret() -> None:
    for text in (repr(TOKEN), str(TOKEN), repr(Invitation("a:1", bytes(32), TOKEN)), f"{[TOKEN]}"):
        assert TOKEN.id in text
        assert repr(SECRET)[2:-1] not in text
        assert "\\x01" not in text


@pytest.mark.parametrize(
    ("now", "revoked", "why"),
    [
        (999.9, None, None),
        (1000.0, None, "expired on 1970-01-01 00:16:40 UTC"),
        (20.0, 15, "was revoked on 1970-01-01 00:00:15 UTC"),
        (2000.0, 15, "was revoked on 1970-01-01 00:00:15 UTC"),
    ],
)
def test_a_grant_is_in_force_until_it_expires_or_is_revoked(now: float, revoked: int | None, why: str | None) -> None:
    assert lapse(msgspec.structs.replace(GRANT, revoked=revoked), now) == why


def test_a_grant_without_an_end_is_in_force_for_ever() -> None:
    assert lapse(msgspec.structs.replace(GRANT, scope=Scope()), LAST_MOMENT) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("90m", 5400), ("12h", 43200), ("30d", 2592000), ("2w", 1209600), ("36600d", 36600 * 86400)],
)
def test_a_duration_is_a_number_with_its_unit(text: str, seconds: int) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "d", "30", "-1d", "0d", "1.5d", "1 d", "1y", "36601d", "٣d", "1D", "9" * 5000 + "s"]
)
def test_anything_else_is_no_duration(text: str) -> None:
    assert duration(text) is None


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_every_moment_that_a_message_can_carry_has_a_text(nanoseconds: int) -> None:
    assert moment_text(nanoseconds / 1e9).endswith(" UTC")
