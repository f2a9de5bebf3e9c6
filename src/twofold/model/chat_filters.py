"""What a chat template may call: filters, tests and methods, as lists of what is allowed.

An operation is allowed plainly if its result is about as long as what it is given, and its time too. The
others are guarded: they pay the meter of the rendering before they run. Everything else is absent; compiling
a template that names an absent filter or test fails.
"""

import json
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from jinja2 import filters as jinja_filters
from jinja2 import pass_context
from jinja2 import tests as jinja_tests
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

from twofold.model.chat_meter import ITEM, Meter, refuse_large


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TEXT_FILTERS = _names(
    "abs capitalize count d default dictsort e escape first float int last length lower safe string title upper"
)
_ITEM_FILTERS = _names("items list map max min reject rejectattr reverse select selectattr sort unique")
_PLAIN_TESTS = _names(
    "!= < <= == > >= boolean callable defined divisibleby eq equalto even false float ge gt greaterthan "
    "integer iterable le lessthan lower lt mapping ne none number odd sameas sequence string true undefined "
    "upper"
)
_QUADRATIC_METHODS = _names("lstrip rfind rindex rpartition rsplit rstrip strip")
_SPLITTING_METHODS = _names("rsplit split splitlines")
_LINEAR_METHODS = _names(
    "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier "
    "islower isnumeric isprintable isspace istitle isupper join lower partition removeprefix removesuffix "
    "replace startswith swapcase title upper"
)
_PATH_LIMIT = 32  # attributes of attributes, followed for every item
_NEEDLE_LIMIT = 64  # characters sought at once where the search takes text times needle

ALLOWED_METHODS: dict[type, frozenset[str]] = {
    str: _QUADRATIC_METHODS | _SPLITTING_METHODS | _LINEAR_METHODS,
    dict: _names("copy get items keys values"),
    list: _names("count index"),
    tuple: _names("count index"),
}


def meter_of(context: Context) -> Meter:
    """The account of the rendering that `context` belongs to."""
    meter = getattr(context, "meter", None)
    if not isinstance(meter, Meter):
        raise SecurityError("it runs outside of a metered rendering")
    return meter


def pay_for_method(meter: Meter, text: str, method: str, args: tuple[Any, ...]) -> None:
    """Pay for `text.method(*args)` before it runs."""
    meter.weigh(text)
    meter.weigh(args)
    if method in _QUADRATIC_METHODS:
        _refuse_long(args[:1])
    if method in _SPLITTING_METHODS:
        given = args[0] if args and method != "splitlines" else None
        meter.claim(ITEM * (text.count(given) if isinstance(given, str) else len(text) // 2))
    elif method == "replace" and len(args) > 1:
        meter.claim(len(text) + text.count(args[0]) * len(args[1]))
    elif method == "join" and args:
        meter.claim(meter.weigh(args[0]) + len(text) * len(args[0]))


def _refuse_long(needles: tuple[Any, ...]) -> None:
    if any(isinstance(needle, str) and len(needle) > _NEEDLE_LIMIT for needle in needles):
        raise SecurityError(f"it strips or searches backwards with more than {_NEEDLE_LIMIT} characters")


def _refuse_long_paths(paths: tuple[Any, ...]) -> None:
    if any(isinstance(path, str) and path.count(".") + path.count(",") > _PATH_LIMIT for path in paths):
        raise SecurityError(f"it follows a path of more than {_PATH_LIMIT} attributes")


def _over_items(name: str) -> Callable[..., Any]:
    """Jinja's filter made eager, so that its result can be weighed; long strings are no sequences to it."""
    original = jinja_filters.FILTERS[name]
    first = 1 if hasattr(original, "jinja_pass_arg") else 0

    @wraps(original)
    def eager(*args: Any, **kwargs: Any) -> Any:
        if isinstance(args[first], str):
            refuse_large(ITEM * len(args[first]))
        given = () if name == "map" else args[first + 1 :]  # map's are its filter's, and no path
        _refuse_long_paths((*given, kwargs.get("attribute")))
        result = original(*args, **kwargs)
        return list(result) if isinstance(result, Iterator) else result

    return eager


@pass_context
def _trim(_context: Context, value: Any, chars: str | None = None) -> str:
    _refuse_long((chars,))
    return jinja_filters.do_trim(value, chars)


@pass_context
def _replace(context: Context, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    meter = meter_of(context)
    for part in (value, old, new):
        meter.weigh(part)
    text, old, new = str(value), str(old), str(new)
    meter.claim(len(text) + text.count(old) * len(new))
    return text.replace(old, new, -1 if count is None else count)


@pass_context
def _join(context: Context, value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    meter = meter_of(context)
    _refuse_long_paths((attribute,))
    items = list(value)
    meter.claim(meter.weigh(items) + meter.weigh(d) * len(items))
    joined: str = jinja_filters.FILTERS["join"](context.eval_ctx, items, d, attribute)
    return joined


@pass_context
def _indent(context: Context, value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    meter = meter_of(context)
    shift = width if isinstance(width, int) else len(str(width))
    meter.claim(meter.weigh(value) + (len(str(value).splitlines()) + 1) * shift)
    return jinja_filters.do_indent(str(value), width, first, blank)


@pass_context
def _tojson(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON with characters as they are, where Jinja's own filter escapes for HTML (Transformers' form)."""
    meter = meter_of(context)
    meter.weigh(value)
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= 16):
        raise SecurityError("tojson takes an indent of 0 to 16")
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return meter.read(encoder.iterencode(value))


@pass_context
def _is_in(context: Context, value: Any, sequence: Any) -> bool:
    meter_of(context).weigh(sequence)
    return value in sequence


FILTERS: dict[str, Any] = {
    **{name: jinja_filters.FILTERS[name] for name in _TEXT_FILTERS},
    **{name: _over_items(name) for name in _ITEM_FILTERS},
    "trim": _trim,
    "replace": _replace,
    "join": _join,
    "indent": _indent,
    "tojson": _tojson,
}
TESTS: dict[str, Any] = {**{name: jinja_tests.TESTS[name] for name in _PLAIN_TESTS}, "in": _is_in}
