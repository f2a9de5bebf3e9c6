"""What an answer must look like, as data: a JSON object, a JSON schema, a grammar or a regular expression."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from twofold.errors import RequestError
from twofold.model.tokenizer import Tokenizer
from twofold.model.tool_calls import ToolFormat

Kind = Literal["json_object", "json_schema", "grammar", "regex"]

# Between two elements of JSON, at most so much: a small model can go on with blanks for ever.
WHITESPACE = r"[ \t\r\n]{0,40}"


class Constraint(msgspec.Struct, frozen=True):
    """The whole answer is a JSON object, valid under the schema `text`, or a word of the grammar or expression `text`.

    A grammar is in the Lark-like language of llguidance; a regular expression is Rust's, matched from end to end.
    """

    kind: Kind
    text: str = ""


def call_of(
    tools: Mapping[str, Mapping[str, Any]], form: ToolFormat, tokenizer: Tokenizer, *, only: str | None = None
) -> Constraint:
    """The answer is calls of `tools` (name → JSON schema of its arguments) and nothing else; of `only`, exactly one.

    RequestError if there is no tool, or none called `only`.
    """
    offered = list(tools) if only is None else [name for name in tools if name == only]
    if not offered:
        raise RequestError(
            f"tool_choice needs the tool {only!r}, which is not among tools" if only else "tools is empty"
        )
    marks = {text: token for token in tokenizer.special_ids if (text := tokenizer.data.tokens[token]) in form.marks}
    rules = [_rule(f"call_{i}", name, tools[name], form, marks) for i, name in enumerate(offered)]
    one = "(" + " | ".join(f"call_{i}" for i in range(len(offered))) + ")"
    more = "" if only else f" ({_literal(form.between, marks)} {one})*"
    start = f"start: {_literal(form.prefix, marks)} {one}{more} {_literal(form.suffix, marks)}"
    return Constraint("grammar", "\n".join([start, *rules]))


def _rule(rule: str, name: str, schema: Mapping[str, Any], form: ToolFormat, marks: Mapping[str, int]) -> str:
    head = f"{{{json.dumps('name')}: {json.dumps(name)}, {json.dumps(form.arguments)}: "
    arguments = {"type": "object", **schema, "x-guidance": {"whitespace_pattern": WHITESPACE}}
    return (
        f"{rule}: {_literal(form.before + head, marks)} {rule}_arguments {_literal('}' + form.after, marks)}\n"
        f"{rule}_arguments: %json {json.dumps(arguments)}"
    )


def _literal(text: str, marks: Mapping[str, int]) -> str:
    """`text` in a grammar, with a mark that is a control token as this token."""
    for mark, token in marks.items():
        before, found, after = text.partition(mark)
        if found:
            return f"{_literal(before, marks)} <[{token}]> {_literal(after, marks)}".strip()
    return json.dumps(text) if text else ""
