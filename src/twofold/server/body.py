"""What arrived, as a body of a known form, or a Refusal that says what is wrong with it.

Every parameter is a field of the body's form, or is `Fixed`, or is refused by its name. A null at the top is a
parameter that was not given.
"""

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from twofold.server.refusal import Refusal
from twofold.units import MIB, Seconds, bytes_text

BODY_BYTES = 16 * MIB
DEPTH = 64  # of lists and objects in one another

_PLACE = re.compile(r"`\$\.([^`]+)`")  # as msgspec writes where something is wrong
Form = TypeVar("Form", bound=msgspec.Struct)
Implied = Mapping[str, Mapping[str, str]]  # parameter → what an object in its list says if it does not say it
NONE: Implied = {}


def _number(text: str) -> float:
    """A number that was written with a point or an exponent; 2.0 is the whole number 2, as in JSON Schema."""
    number = float(text)
    if math.isinf(number):
        raise msgspec.ValidationError(f"{text[:20]} is out of range")
    return int(number) if number.is_integer() else number


_DECODER = msgspec.json.Decoder(float_hook=_number)


class Fixed(NamedTuple):
    """A parameter that is known and has one meaning here: only these values are accepted, as they ask for that."""

    name: str
    values: tuple[object, ...]  # none: always refused
    why: str


async def read(request: Request, patience: Seconds, most: int = BODY_BYTES) -> bytes:
    """The whole body. Refusal 415 unless it is JSON, 413 if it has more than `most` bytes, 408 if it
    takes longer than `patience`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "the body must be JSON; send Content-Type: application/json")
    too_large = Refusal(413, f"the body has more than {bytes_text(most)}; send less", code="body_too_large")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {patience:g} s; send it faster") from None
    except ClientDisconnect:
        raise Refusal(400, "the body ended before its end") from None
    return bytes(body)


def parsed(raw: bytes, form: type[Form], fixed: Sequence[Fixed] = (), implied: Implied = NONE) -> Form:
    """`raw` as `form`; Refusal 400 naming the parameter that is unknown, refused, or of another type or range."""
    values = _object(raw)
    by_name = {row.name: row for row in fixed}
    unknown = next((name for name in values if name not in form.__struct_encode_fields__ and name not in by_name), None)
    if unknown is not None:
        name = unknown[:100]
        raise Refusal(400, f"there is no parameter {name!r} here; leave it out", param=name, code="unknown_parameter")
    given = {name: value for name, value in values.items() if value is not None}
    for name in given.keys() & by_name.keys():
        _check_fixed(by_name[name], given[name])
    rest = {name: value for name, value in given.items() if name not in by_name}
    for name in given.keys() & implied.keys():
        rest[name] = _completed(rest[name], implied[name])
    try:
        return msgspec.convert(rest, form)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = _PLACE.search(where)
        param = place[1] if place else None
        raise Refusal(400, f"{param or 'the body'}: {what}", param=param, code="invalid_value") from None


def _completed(value: Any, implied: Mapping[str, str]) -> Any:
    """The same list, with what its objects do not say."""
    return [{**implied, **one} if isinstance(one, dict) else one for one in value] if isinstance(value, list) else value


def _check_fixed(row: Fixed, value: object) -> None:
    if any(value == allowed and type(value) is type(allowed) for allowed in row.values):
        return
    allowed = " or ".join(msgspec.json.encode(value).decode() for value in row.values)
    remedy = f"send {allowed} or leave it out" if allowed else "leave it out"
    raise Refusal(
        400, f"{row.name} is not supported: {row.why}; {remedy}", param=row.name, code="unsupported_parameter"
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(raw)
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body is not UTF-8 ({error.reason})", code="invalid_json") from None
    except msgspec.MsgspecError as error:
        raise Refusal(400, f"the body is not JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(value, dict):
        raise Refusal(400, "the body is no object; send {...}", code="invalid_json")
    if raw.count(b"[") + raw.count(b"{") > DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    level: list[Any] = [value]
    for _ in range(DEPTH):
        inside = [child for one in level for child in (one.values() if isinstance(one, dict) else one)]
        level = [child for child in inside if isinstance(child, dict | list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> Refusal:
    return Refusal(
        400, f"lists and objects in the body are more than {DEPTH} deep; send it flatter", code="invalid_json"
    )
