"""Who is admitted, who is refused, and what each is told."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_processor import DIGEST, MANIFEST

from twofold.errors import Refused
from twofold.processor.admission import CLOCK_SECONDS, Admission
from twofold.store.grant import Grant, Scope, Token, verifier_of
from twofold.units import Nanoseconds
from twofold.wire.message import Hello
from twofold.wire.token import NO_FINGERPRINT, proved

NOW = 1_800_000_000.0
FINGERPRINT = bytes(range(100, 132))
NONCE = bytes(range(16))
nonces = st.binary(min_size=16, max_size=16)
TOKEN = Token("00112233aabbccdd", bytes(range(32)))


def grant_of(token: Token = TOKEN, *, revoked: int | None = None, **scope: object) -> Grant:
    return Grant("laptop", token.id, verifier_of(token.secret), Scope(**scope), granted=0, revoked=revoked)  # type: ignore[arg-type]


def hello_at(seconds: float, *, nonce: bytes = NONCE, token: Token = TOKEN, fingerprint: bytes = FINGERPRINT) -> Hello:
    return proved(Hello(), token, fingerprint, time=Nanoseconds(int(seconds * 1e9)), nonce=nonce)


def admitted(admission: Admission, hello: Hello, now: float = NOW, *, nonce: bytes = NONCE) -> Grant:
    return admission.admit(hello, MANIFEST, now=now, nonce=nonce, fingerprint=FINGERPRINT)


def test_the_holder_of_a_token_is_admitted_under_its_grant() -> None:
    grant = grant_of(model=DIGEST[:8], rows=7, expires=int(NOW) + 1)
    assert admitted(Admission([grant]), hello_at(NOW)) is grant


def test_who_has_no_token_is_told_how_to_get_one() -> None:
    with pytest.raises(Refused, match=r"asks for a token.*twofold keys grant.*twofold join LINK"):
        admitted(Admission([grant_of()]), Hello())


REFUSED = {
    "unknown": ([], hello_at(NOW), "token 00112233aabbccdd is not known here"),
    "another secret": ([grant_of(Token(TOKEN.id, bytes(32)))], hello_at(NOW), "proof of token 'laptop' is wrong"),
    "for another connection": ([grant_of()], hello_at(NOW, nonce=bytes(16)), "proof of token 'laptop' is wrong"),
    "not challenged": ([grant_of()], hello_at(NOW, nonce=b""), "proof of token 'laptop' is wrong"),
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


@given(nonces, nonces)
def test_a_handshake_is_admitted_by_its_own_challenge_alone(mine: bytes, other: bytes) -> None:
    admission, hello = Admission([grant_of()]), hello_at(NOW, nonce=mine)
    assert admitted(admission, hello, nonce=mine)
    if mine != other:
        with pytest.raises(Refused, match="proof of token 'laptop' is wrong"):
            admitted(admission, hello, nonce=other)


def test_a_connection_ends_when_its_token_is_revoked_expires_or_vanishes() -> None:
    grant = grant_of(expires=int(NOW) + 10)
    admission = Admission([grant])
    assert admission.ended(grant, NOW) is None
    assert "expired" in (admission.ended(grant, NOW + 10) or "")
    admission.reload([grant_of(revoked=int(NOW))])
    assert "was revoked" in (admission.ended(grant, NOW) or "")
    admission.reload([])
    assert admission.ended(grant, NOW) == "token 'laptop' is no longer granted"


def test_a_new_token_is_admitted_after_a_reload() -> None:
    admission, other = Admission([grant_of()]), Token("f" * 16, bytes(32))
    admission.reload([grant_of(), grant_of(other)])
    assert admitted(admission, hello_at(NOW, token=other))


def test_a_proof_without_a_certificate_is_admitted_only_without_one() -> None:
    bare = hello_at(NOW, fingerprint=NO_FINGERPRINT)
    assert Admission([grant_of()]).admit(bare, MANIFEST, now=NOW, nonce=NONCE)
    with pytest.raises(Refused, match="proof"):
        admitted(Admission([grant_of()]), bare)
