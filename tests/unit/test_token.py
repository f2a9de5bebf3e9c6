"""A join link comes back whole or not at all; a proof holds for what was proved and nothing else."""

import hashlib
import hmac
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_processor import DIGEST

from twofold.errors import ConfigurationError
from twofold.store.grant import Invitation, Token, verifier_of
from twofold.units import Nanoseconds
from twofold.wire.message import NONCE_BYTES, Hello, decode, encode
from twofold.wire.token import (
    NO_FINGERPRINT,
    SCHEME,
    is_proved,
    link_text,
    parse_link,
    place_of,
    proved,
)

FINGERPRINT = bytes(range(100, 132))
TOKEN = Token("00112233aabbccdd", bytes(range(32)))
INVITATION = Invitation("weights.example:7070", FINGERPRINT, TOKEN)
LINK = link_text(INVITATION)
NOW = Nanoseconds(1_800_000_000_000_000_000)
NONCE = bytes(NONCE_BYTES)
HELLO = proved(Hello(digest=DIGEST), TOKEN, FINGERPRINT, time=NOW, nonce=NONCE)
VERIFIER = verifier_of(TOKEN.secret)

thirty_two = st.binary(min_size=32, max_size=32)
tokens = st.builds(Token, st.binary(min_size=8, max_size=8).map(bytes.hex), thirty_two)


@given(st.sampled_from(["a:1", "[::1]:7070", "10.0.0.1:65535", "weights.example:7070"]), thirty_two, tokens)
def test_a_link_gives_back_the_invitation_it_was_made_of(place: str, fingerprint: bytes, token: Token) -> None:
    invitation = Invitation(place, fingerprint, token)
    text = link_text(invitation)
    assert parse_link(text) == invitation
    assert parse_link(f"  {text}\n") == invitation  # as pasted
    assert text.isascii()
    assert not set(text) & set(" '\"\\$`,;&|<>*?")  # a shell, or a list of addresses, takes it as one word


@given(st.integers(0, len(LINK) - 1), st.characters(codec="ascii"))
def test_a_link_with_a_letter_changed_is_refused_or_leads_elsewhere_with_the_same_token(at: int, letter: str) -> None:
    changed = LINK[:at] + letter + LINK[at + 1 :]
    try:
        invitation = parse_link(changed)
    except ConfigurationError:
        return
    assert (invitation.fingerprint, invitation.token) == (FINGERPRINT, TOKEN)
    assert changed == LINK or len(SCHEME) <= at < LINK.index("/#")


@given(st.integers(0, len(LINK) - 1))
def test_a_link_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ConfigurationError):
        parse_link(LINK[:length])


@given(st.text(max_size=200) | st.text(max_size=150).map(lambda text: f"{SCHEME}host:1/#{text}"))
def test_random_text_is_refused_in_one_line_that_does_not_repeat_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_link(text)
    assert str(caught.value).isprintable()


def test_a_link_has_one_spelling() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = letters.index(LINK[-1])
    for other in range(at - at % 4, at - at % 4 + 4):  # the last letter has two bits more than are needed
        if other != at:
            with pytest.raises(ConfigurationError, match="letters that it cannot have"):
                parse_link(LINK[:-1] + letters[other])


def test_a_link_of_another_version_names_both() -> None:
    later = f"{SCHEME}host:1/#" + "Ag" + "A" * 101
    with pytest.raises(ConfigurationError, match="of version 2, this program reads 1"):
        parse_link(later)


def test_a_refused_link_is_not_repeated() -> None:
    secret_part = LINK.partition("#")[2]
    for damaged in (LINK[:-1] + "!", LINK[:-1], LINK.replace("7070", "x"), LINK + "A"):
        with pytest.raises(ConfigurationError) as caught:
            parse_link(damaged)
        assert secret_part[40:80] not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [("Host:07070", "host:7070"), ("[2001:DB8::1]:1", "[2001:db8::1]:1"), ("127.0.0.1:65535", "127.0.0.1:65535")],
)
def test_a_place_has_one_spelling(text: str, place: str) -> None:
    assert place_of(text) == place == place_of(place)


@pytest.mark.parametrize(
    "text",
    ["", "host", ":7070", "host:", "host:0", "host:65536", "host:7a", "a b:1", "a/b:1", "::1:70", "h:١", "[x]:1"],
)
def test_anything_else_is_no_place(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not HOST:PORT"):
        place_of(text)


def test_a_proof_holds_after_the_wire() -> None:
    assert is_proved(decode(encode(HELLO)), VERIFIER, FINGERPRINT, NONCE)  # type: ignore[arg-type]


CHANGES: dict[str, Any] = {
    "token": "00112233aabbccde",
    "time": NOW + 1,
    "digest": None,
    "owner": "00" * 16,
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_proof_does_not_hold_for_another_hello(field: str) -> None:
    assert not is_proved(msgspec.structs.replace(HELLO, **{field: CHANGES[field]}), VERIFIER, FINGERPRINT, NONCE)


@given(st.integers(0, 31), st.integers(1, 255), st.sampled_from(["proof", "fingerprint", "verifier", "secret"]))
def test_a_proof_with_any_byte_changed_does_not_hold(at: int, flip: int, where: str) -> None:
    def flipped(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= flip
        return bytes(changed)

    hello, verifier, fingerprint = HELLO, VERIFIER, FINGERPRINT
    match where:
        case "proof":
            hello = msgspec.structs.replace(HELLO, proof=flipped(HELLO.proof))
        case "fingerprint":
            fingerprint = flipped(FINGERPRINT)
        case "verifier":
            verifier = flipped(VERIFIER)
        case "secret":
            other = Token(TOKEN.id, flipped(TOKEN.secret))
            hello = proved(Hello(digest=DIGEST), other, FINGERPRINT, time=NOW, nonce=NONCE)
    assert not is_proved(hello, verifier, fingerprint, NONCE)


def test_a_proof_does_not_hold_for_another_challenge() -> None:
    assert not is_proved(HELLO, VERIFIER, FINGERPRINT, b"\1" + NONCE[1:])
    assert not is_proved(HELLO, VERIFIER, FINGERPRINT, b"")


def test_what_moves_from_one_member_of_a_hello_to_the_next_changes_the_proof() -> None:
    hello = proved(Hello(digest="ab", owner="cd"), TOKEN, FINGERPRINT, time=NOW, nonce=NONCE)
    moved = msgspec.structs.replace(hello, digest="abc", owner="d")
    assert is_proved(hello, VERIFIER, FINGERPRINT, NONCE)
    assert not is_proved(moved, VERIFIER, FINGERPRINT, NONCE)


@given(st.binary(max_size=80), st.integers(-(1 << 63), (1 << 63) - 1), st.text(max_size=20))
def test_whatever_a_hello_claims_is_answered(proof: bytes, time: int, token: str) -> None:
    hello = Hello(token=token, time=Nanoseconds(time), proof=proof)
    assert not is_proved(hello, VERIFIER, FINGERPRINT, NONCE)


def test_a_proof_for_one_host_is_useless_at_another_and_without_a_certificate() -> None:
    assert not is_proved(HELLO, VERIFIER, bytes(32 * [7]), NONCE)
    assert not is_proved(HELLO, VERIFIER, NO_FINGERPRINT, NONCE)


def test_the_verifier_does_not_make_a_proof() -> None:
    other = b"\2" * NONCE_BYTES
    for guess in (VERIFIER, hmac.digest(VERIFIER, other, hashlib.sha256), HELLO.proof):
        assert not is_proved(msgspec.structs.replace(HELLO, proof=guess), VERIFIER, FINGERPRINT, other)
    as_secret = proved(Hello(), Token(TOKEN.id, VERIFIER), FINGERPRINT, time=NOW, nonce=NONCE)
    assert not is_proved(as_secret, VERIFIER, FINGERPRINT, NONCE)


def test_no_bytes_of_the_secret_or_the_verifier_are_in_the_hello() -> None:
    sent = encode(HELLO)
    for kept in (TOKEN.secret, VERIFIER):
        assert not any(kept[at : at + 4] in sent for at in range(len(kept) - 3))
