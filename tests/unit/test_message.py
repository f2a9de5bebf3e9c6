import inspect

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_processor import DIGEST, MANIFEST

from twofold import errors
from twofold.errors import TEXT_LIMIT, DownloadError, FrameError, LinkError, ModelError, TwofoldError, one_line
from twofold.units import Bytes, Nanoseconds
from twofold.wire.frame import CONTROL_BYTES
from twofold.wire.message import (
    ERRORS,
    AskStatus,
    AskTokenizer,
    Challenge,
    Drain,
    Failed,
    Hello,
    Message,
    Ping,
    Pong,
    TokenizerReply,
    Welcome,
    decode,
    encode,
    error_of,
    failed,
)
from twofold.wire.status import BUCKETS, Counts, Status

COUNTS = Counts(1, 2, 1, Nanoseconds(4), Nanoseconds(5), Bytes(6), Bytes(7), (1,), (0, 1), (1,), {"Refused": 1})
MESSAGES: list[Message] = [
    Hello(digest=DIGEST, shared_memory=True),
    Hello(),
    Challenge(bytes(range(16))),
    Welcome(MANIFEST, (0, 1), 256, 32, 4711, "weight processor"),
    AskTokenizer(),
    TokenizerReply(b"\0\xff" * 100),
    Ping(),
    Pong(),
    Pong(draining=True),
    Ping(b"12", 3),
    AskStatus(),
    Status("toy", DIGEST, (0, 1), 7, Nanoseconds(5), False, 3, 2, {"alice": 1}, 1, COUNTS),
    Drain(),
    Failed("ModelError", "no"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_decode_gives_back_every_message(message: Message) -> None:
    assert decode(encode(message)) == message


def test_every_member_of_the_union_is_tested() -> None:
    assert {type(message) for message in MESSAGES} == set(Message.__args__)


def decoded_or_refused_in_one_line(payload: bytes) -> bool:
    try:
        return isinstance(decode(payload), Message)
    except FrameError as error:
        return "\n" not in str(error)


@given(st.binary(max_size=300))
def test_random_bytes_are_a_message_or_a_frame_error(payload: bytes) -> None:
    assert decoded_or_refused_in_one_line(payload)


@given(
    st.sampled_from(MESSAGES),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    st.data(),
)
def test_a_mutated_message_is_a_message_or_a_frame_error(
    message: Message, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    payload = bytearray(encode(message))
    for at, value in changes:
        payload[at % len(payload)] = value
    del payload[data.draw(st.integers(0, len(payload))) :]
    assert decoded_or_refused_in_one_line(bytes(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x81" * 100_000,
        b"\x91" * 100_000,
        msgspec.msgpack.encode({"type": "shutdown"}),
        msgspec.msgpack.encode({"type": "failed", "kind": 3, "message": "x"}),
        msgspec.msgpack.encode({"type": "failed", "kind": "x"}),
        msgspec.msgpack.encode({"type": "ping", "deep": None}).replace(b"\xc0", b"\x91" * 50_000 + b"\xc0"),
        encode(Status("", "", (), 0, Nanoseconds(0), False, 0, 0, {}, 0, Counts(waits=(0,) * (BUCKETS + 1)))),
        b"\x81\xa4type\xa4\xff\xff\xff\xff",
        encode(Ping()) + b"\0",
    ],
)
def test_a_payload_that_is_no_message_is_a_frame_error(payload: bytes) -> None:
    with pytest.raises(FrameError, match="no valid message"):
        decode(payload)


def test_fields_of_a_later_version_are_passed_over_so_that_the_handshake_can_name_it() -> None:
    hello = {"type": "hello", "protocol": 9, "numerics": 1, "digest": None, "colour": "blue"}
    assert decode(msgspec.msgpack.encode(hello)) == Hello(protocol=9)


def test_a_message_over_the_limit_is_not_sent() -> None:
    with pytest.raises(FrameError, match=r"the limit is 64\.0 MiB"):
        encode(TokenizerReply(bytes(CONTROL_BYTES)))


def test_the_table_holds_every_error_class() -> None:
    classes = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, TwofoldError)}
    assert set(ERRORS.values()) == classes


@pytest.mark.parametrize("kind", list(ERRORS.values()))
def test_an_error_comes_back_as_its_own_class(kind: type[TwofoldError]) -> None:
    back = error_of(failed(kind("what is wrong; what to do")))
    assert type(back) is kind
    assert str(back) == "what is wrong; what to do"


def test_a_class_outside_the_table_travels_as_its_nearest_base_in_it() -> None:
    class TornError(DownloadError):
        pass

    assert failed(TornError("x")).kind == "DownloadError"


def test_an_unknown_kind_is_a_link_error_that_names_it() -> None:
    for kind in ("SystemExit", "object", "annotations", ""):
        back = error_of(Failed(kind, "text"))
        assert type(back) is LinkError
        assert str(back) == f"{kind}: text"


@given(st.text(max_size=50))
def test_the_text_of_an_error_is_one_printable_line_of_bounded_length(text: str) -> None:
    line = str(error_of(Failed(ModelError.__name__, text)))
    assert len(line) <= TEXT_LIMIT
    assert line.isprintable()


def test_long_text_is_cut() -> None:
    assert len(one_line("x" * 10**6)) == TEXT_LIMIT
