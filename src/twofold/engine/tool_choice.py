"""An answer that must call a tool, as a constraint: calls in the model's own form, with the tools' own schemas."""

import json
from collections.abc import Mapping
from typing import Any

from twofold.engine.constraint import WHITESPACE, Constraint
from twofold.errors import RequestError
from twofold.model.tokenizer import Tokenizer
from twofold.model.tool_calls import ToolFormat


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
