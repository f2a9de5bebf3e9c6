"""What an answer must look like: its form, as a grammar or a schema."""

from typing import Literal

import msgspec


class Constraint(msgspec.Struct, frozen=True):
    """A form that the text of an answer must have: `text` is the schema, grammar or regular expression."""

    kind: Literal["json_object", "json_schema", "grammar", "regex"]
    text: str = ""
