"""What OpenAI's two protocols ask of tools, in both the same: as checks, and as JSON Schema."""

from collections.abc import Mapping, Sequence
from typing import Any

FREE_CHOICES = ["none", "auto", None]  # of OpenAI's clients: no call is asked for


def check_strict(strict: Sequence[bool | None], choice: object) -> None:
    """ValueError if a tool is strict, and no call is asked for that could be held to its schema."""
    if any(strict) and choice in FREE_CHOICES:
        raise ValueError("tools: strict arguments can be had with tool_choice `required` or a named tool alone")


def tool_rules(lenient: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema of the same, and that a call needs tools to be asked for; `lenient`: of tools that are not strict."""
    forced = {"anyOf": [{"const": "required"}, {"type": "object"}]}
    asked = {"tools": {"type": "array", "minItems": 1}, "tool_choice": forced}
    free = {"tools": lenient, "tool_choice": {"enum": FREE_CHOICES}}
    return {"anyOf": [{"required": ["tools", "tool_choice"], "properties": asked}, {"properties": free}]}
