"""Writes docs/openai.md from the forms by which the server reads bodies, so that the page cannot say anything else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from twofold.server.app import ENDPOINTS
from twofold.server.endpoint import Endpoint
from twofold.server.openapi import parameters

PAGE = Path(__file__).parent / "openai.md"
HEAD = """# Parameters

What `twofold serve` accepts, and what it refuses. There is nothing between: a parameter that is not listed, or a value
that is not, is answered with 400 and its name, in the error shape of the protocol. A null is a parameter that was left
out. `make docs` writes this page from the code that reads the bodies.
"""


def page() -> str:
    """The page."""
    return "\n".join([HEAD, *(line for endpoint in ENDPOINTS for line in _section(endpoint))])


def _section(endpoint: Endpoint[Any]) -> Iterator[str]:
    yield f"## `{endpoint.path}`\n"
    yield "| parameter | accepted | |"
    yield "|---|---|---|"
    fixed = {row.name: row for row in endpoint.fixed}
    for name, schema in parameters(endpoint).items():
        if name not in fixed:
            yield _row(name, accepted(schema), schema.get("description", ""))
        elif fixed[name].values:
            values = " or ".join(_code(value) for value in fixed[name].values)
            yield _row(name, f"only {values}", f"{_sentence(fixed[name].why)} Any other value: 400.")
    yield ""
    refused = [_row(row.name, _sentence(row.why)) for row in endpoint.fixed if not row.values]
    if refused:
        yield from ("| refused with 400 | because |", "|---|---|", *refused, "")


def accepted(schema: dict[str, Any]) -> str:
    """The values that a JSON Schema accepts, for people; null is left out."""
    if "$ref" in schema:
        return "an object"
    if "enum" in schema:
        return ", ".join(_code(value) for value in schema["enum"] if value is not None)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(accepted(one) for one in schema["anyOf"] if one != {"type": "null"}))
    kind = schema["type"]
    if kind == "array":
        return f"a list{_most(schema, 'maxItems')}, each {accepted(schema['items'])}"
    plain = {
        "object": f"an object{_most(schema, 'maxProperties')}",
        "string": f"text{_most(schema, 'maxLength')}",
        "boolean": "`true`, `false`",
        "integer": f"a whole number{_range(schema)}",
        "number": f"a number{_range(schema)}",
    }
    return plain[kind]


def _range(schema: dict[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    above = " above" if "exclusiveMinimum" in schema else ""
    if abs(high or 0) >= 1 << 31 or (high is None and low is None):
        return ""
    return f"{above} {low:g}{' and up' if high is None else f' to {high:g}'}"


def _most(schema: dict[str, Any], name: str) -> str:
    return f" (at most {schema[name]})" if name in schema else ""


def _row(*cells: str) -> str:
    first, *others = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| `{first}` | {' | '.join(others)} |"


def _code(value: object) -> str:
    return f"`{json.dumps(msgspec.to_builtins(value))}`"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    PAGE.write_text(page())
