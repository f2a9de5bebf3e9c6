"""What an answer must look like, as data: a JSON object, a JSON schema, a grammar or a regular expression."""

from typing import Literal

import msgspec

from twofold.units import KIB

Kind = Literal["json_object", "json_schema", "grammar", "regex"]

# Between two elements of JSON, at most so much: a small model can go on with blanks for ever.
WHITESPACE = r"[ \t\r\n]{0,40}"

TEXT_LIMIT_BYTES = 256 * KIB


class Constraint(msgspec.Struct, frozen=True):
    """The whole answer is a JSON object, valid under the schema `text`, or a word of the grammar or expression `text`.

    A grammar is in the Lark-like language of llguidance; a regular expression is Rust's, matched from end to end.
    """

    kind: Kind
    text: str = ""
