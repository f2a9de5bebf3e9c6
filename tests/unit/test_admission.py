"""Who is admitted, who is refused, and what each is told."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_processor import DIGEST, MANIFEST

from twofold.errors import Refused
from twofold.processor.admission import CLOCK_SECONDS, REMEMBERED, Admission, Seen
from twofold.store.grant import Grant, Scope, Token, verifier_of
from twofold.units import Nanoseconds
from twofold.wire.message import Hello
from twofold.wire.token import NO_FINGERPRINT, proved

NOW = 1_800_000_000.0
FINGERPRINT = bytes(range(100, 132))
TOKEN = Token("00112233aabbccdd", bytes(range(32)))


def grant_of(token: Token = TOKEN, *, revoked: int | None = None, **scope: object) -> Grant:
    return Grant("laptop", token.id, verifier_of(token.secret), Scope(**scope), granted=0, revoked=revoked)  # type: ignore[arg-type]


def hello_at(seconds: float, *, number: int = 0, token: Token = TOKEN, fingerprint: bytes = FINGERPRINT) -> Hello:
    nonce = number.to_bytes(16, "little")
    return proved(Hello(), token, fingerprint, time=Nanoseconds(int(seconds * 1e9)), nonce=nonce)


def admitted(admission: Admission, hello: Hello, now: float = NOW) -> Grant:
    return admission.admit(hello, MANIFEST, now=now, fingerprint=FINGERPRINT)


def test_the_holder_of_a_token_is_admitted_under_its_grant() -> None:
    grant = grant_of(model=DIGEST[:8], rows=7, expires=int(NOW) + 1)
    assert admitted(Admission([grant]), hello_at(NOW)) is grant


def test_who_has_no_token_is_told_how_to_get_one() -> None:
    with pytest.raises(Refused, match=r"asks for a token.*twofold keys grant.*twofold join LINK"):
        admitted(Admission([grant_of()]), Hello())


REFUSED = {
    "unknown": ([], hello_at(NOW), "token 00112233aabbccdd is not known here"),
    "another secret": ([grant_of(Token(TOKEN.id, bytes(32)))], hello_at(NOW), "proof of token 'laptop' is wrong"),
    "for another host": ([grant_of()], hello_at(NOW, fingerprint=bytes(32)), "proof of token 'laptop' is wrong"),
    "slow clock": (
        [grant_of()],
        hello_at(NOW - 301),
        "clocks differ by more than 5 minutes: client 2027-01-15 07:54:59 UTC, "
        "weight processor 2027-01-15 08:00:00 UTC",
    ),
    "fast clock": ([grant_of()], hello_at(NOW + 301), "client 2027-01-15 08:05:01 UTC, weight processor"),
    "expired": ([grant_of(expires=int(NOW))], hello_at(NOW), "token 'laptop' expired on 2027-01-15 08:00:00 UTC"),
    "revoked": ([grant_of(revoked=1)], hello_at(NOW), "token 'laptop' was revoked on 1970-01-01 00:00:01 UTC"),
    "another model": (
        [grant_of(model="feedface")],
        hello_at(NOW),
        rf"token 'laptop' is for model feedface, the weight processor holds {DIGEST[:16]} \(toy\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_why_on_one_line(case: str) -> None:
    grants, hello, words = REFUSED[case]
    with pytest.raises(Refused, match=words) as caught:
        admitted(Admission(grants), hello)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("grant", [grant_of(revoked=1), grant_of(expires=1), grant_of(model="feedface")])
def test_who_has_not_the_secret_learns_nothing_of_the_token_but_its_name(grant: Grant) -> None:
    forged = msgspec.structs.replace(hello_at(NOW - 10_000), proof=bytes(32))
    with pytest.raises(Refused, match="proof of token 'laptop' is wrong"):
        admitted(Admission([grant]), forged)


@pytest.mark.parametrize("seconds", [-CLOCK_SECONDS, 0, CLOCK_SECONDS])
def test_a_clock_within_five_minutes_will_do(seconds: float) -> None:
    admission = Admission([grant_of()])
    assert admitted(admission, hello_at(NOW + seconds))


@given(st.floats(-300, 300), st.lists(st.floats(0, 400), max_size=8))
def test_a_handshake_is_admitted_once_however_late_it_is_repeated(skew: float, pauses: list[float]) -> None:
    admission, now, hello = Admission([grant_of()]), NOW, hello_at(NOW + skew)
    assert admitted(admission, hello)
    for number, pause in enumerate(pauses):
        now += pause
        with pytest.raises(Refused, match=r"was used before|clocks differ"):
            admitted(admission, hello, now)
        assert admitted(admission, hello_at(now, number=number + 1), now)  # others in between are remembered too


def test_what_is_remembered_is_bounded_and_nothing_is_admitted_twice_for_it() -> None:
    admission = Admission([grant_of()])
    hellos = [hello_at(NOW + number / 100, number=number) for number in range(REMEMBERED + 50)]
    for hello in hellos:
        admitted(admission, hello)
    seen = admission._seen[TOKEN.id]
    assert len(seen._nonces) == len(seen._by_age) == REMEMBERED
    for hello in hellos:
        with pytest.raises(Refused, match="was used before"):
            admitted(admission, hello)
    assert admitted(admission, hello_at(NOW + 60, number=10**6))


def test_handshakes_that_are_refused_are_not_remembered() -> None:
    admission = Admission([grant_of(), grant_of(Token("f" * 16, bytes(32)))])
    for number in range(10):
        for hello in (
            hello_at(NOW, number=number, token=Token("f" * 16, bytes(31) + b"x")),
            hello_at(NOW - 400, number=number),
        ):
            with pytest.raises(Refused):
                admitted(admission, hello)
    assert not admission._seen


@given(st.lists(st.tuples(st.integers(-300, 300), st.integers(0, 5)), max_size=40), st.integers(0, 600))
def test_no_nonce_is_new_twice(events: list[tuple[int, int]], later: int) -> None:
    seen, new = Seen(), []
    for skew, nonce in events:
        hello = Hello(time=Nanoseconds(int((NOW + skew) * 1e9)), nonce=bytes([nonce]))
        if seen.is_new(hello, NOW):
            new.append((hello.time, hello.nonce))
    assert len({nonce for _, nonce in new}) == len(new)
    for moment, nonce in new:
        again = Hello(time=Nanoseconds(moment), nonce=nonce)
        assert moment / 1e9 < NOW + later - CLOCK_SECONDS or not seen.is_new(again, NOW + later)


def test_a_connection_ends_when_its_token_is_revoked_expires_or_vanishes() -> None:
    grant = grant_of(expires=int(NOW) + 10)
    admission = Admission([grant])
    assert admission.ended(grant, NOW) is None
    assert "expired" in (admission.ended(grant, NOW + 10) or "")
    admission.reload([grant_of(revoked=int(NOW))])
    assert "was revoked" in (admission.ended(grant, NOW) or "")
    admission.reload([])
    assert admission.ended(grant, NOW) == "token 'laptop' is no longer granted"


def test_a_new_token_is_admitted_after_a_reload_and_what_was_seen_stays_seen() -> None:
    admission, other = Admission([grant_of()]), Token("f" * 16, bytes(32))
    admitted(admission, hello_at(NOW))
    admission.reload([grant_of(), grant_of(other)])
    assert admitted(admission, hello_at(NOW, token=other))
    with pytest.raises(Refused, match="was used before"):
        admitted(admission, hello_at(NOW))


def test_a_proof_without_a_certificate_is_admitted_only_without_one() -> None:
    bare = hello_at(NOW, fingerprint=NO_FINGERPRINT)
    assert Admission([grant_of()]).admit(bare, MANIFEST, now=NOW)
    with pytest.raises(Refused, match="proof"):
        admitted(Admission([grant_of()]), bare)
