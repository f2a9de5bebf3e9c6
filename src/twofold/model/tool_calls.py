"""Calls of tools in the text of an answer, in the three forms that models write them in, found as the text comes.

    hermes    <tool_call>{"name": …, "arguments": {…}}</tool_call>, anywhere, once a call        Hermes, Qwen
    llama3    {"name": …, "parameters": {…}}; …, the answer begins with it, or after <|python_tag|>      Llama 3
    mistral   [TOOL_CALLS][{"name": …, "arguments": {…}}, …], anywhere                             Mistral

A call is one that is complete and names a tool that was offered; all else is content, letter by letter. Blanks before
and after a call are not content. Every part of the text is read once, so no text takes longer than its length says.
"""

import re
from collections.abc import Collection

import msgspec

from twofold.errors import RequestError
from twofold.model.marks import undecided


class ToolCall(msgspec.Struct, frozen=True):
    """One call: the tool, and its arguments as the JSON object that the model wrote."""

    name: str
    arguments: str
    id: str = ""  # for the result to name; models write none


class ToolFormat(msgspec.Struct, frozen=True, kw_only=True):
    """One form. Read: `begin` value `end`; written: prefix, calls as before{…}after with between between, suffix."""

    name: str
    begin: str
    end: str = ""
    bare: bool = False  # at the beginning, and after a call, the value needs no `begin`
    arguments: str = "arguments"
    prefix: str = ""
    before: str = ""
    after: str = ""
    between: str = ""
    suffix: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that a vocabulary may have as control tokens."""
        return (self.begin, self.end) if self.end else (self.begin,)


HERMES = ToolFormat(
    name="hermes",
    begin="<tool_call>",
    end="</tool_call>",
    before="<tool_call>\n",
    after="\n</tool_call>",
    between="\n",
)
LLAMA3 = ToolFormat(name="llama3", begin="<|python_tag|>", bare=True, arguments="parameters", between="; ")
MISTRAL = ToolFormat(name="mistral", begin="[TOOL_CALLS]", prefix="[TOOL_CALLS][", between=", ", suffix="]")
FORMATS = {form.name: form for form in (HERMES, LLAMA3, MISTRAL)}


def format_of(template: str, *, forced: str | None = None) -> ToolFormat:
    """The form that a chat template teaches, or the one that is `forced` by name; RequestError if there is none."""
    if forced is not None:
        if forced not in FORMATS:
            raise RequestError(f"the tool format {forced!r} is not known; known: {', '.join(sorted(FORMATS))}")
        return FORMATS[forced]
    for form in (HERMES, MISTRAL, LLAMA3):
        if form.begin in template:
            return form
    if "tools" in template and '"parameters"' in template:  # Llama 3.2 writes no mark
        return LLAMA3
    raise RequestError("this model's chat template knows no tools; leave tools out, or force a tool format by name")


class ToolCallReader:
    """Finds the calls in one answer; what it gives, texts joined, does not depend on how the answer was cut."""

    def __init__(self, form: ToolFormat, names: Collection[str]) -> None:
        """`names`: of the tools that were offered."""
        self._form, self._names = form, frozenset(names)
        self._held = ""  # what is not decided; where a call may begin, from the blanks before it on
        self._bare = form.bare  # whether a value may begin here without a mark
        self._after_call = False
        self._value: _Value | None = None  # where a call may be
        self._calls: list[ToolCall] = []  # what it holds, once it is complete; its end mark may be missing yet

    def push(self, text: str) -> list[str | ToolCall]:
        """What is certain with this text: content and calls, in order."""
        self._held += text
        parts: list[str | ToolCall] = []
        while self._seek(parts) if self._value is None else self._read(self._value, parts):
            pass
        return parts

    def finish(self) -> list[str | ToolCall]:
        """What is left at the end of the answer; the last call may lack its end mark."""
        parts: list[str | ToolCall] = []
        if self._value is not None and self._calls and not self._held[self._value.at :].strip():
            self._succeed(parts, len(self._held))
        self._give(parts, len(self._held))
        return parts

    def _seek(self, parts: list[str | ToolCall]) -> bool:
        """Go on to where a call may begin; False if more text is needed for that."""
        if self._after_call:
            self._held = self._held.lstrip(" \t\r\n;" if self._form.bare else None)
        text = self._held.lstrip()
        if self._bare and text[:1] in ("", "{", "["):
            self._value = _Value(0) if text else None
            return bool(text)
        self._bare = False
        found = self._held.find(self._form.begin)
        certain = found if found >= 0 else len(self._held) - undecided(self._held, (self._form.begin,))
        blanks = certain - len(self._held[:certain].rstrip())
        self._give(parts, certain - blanks)
        if found < 0:
            return False
        self._value = _Value(blanks + len(self._form.begin))
        return True

    def _read(self, value: "_Value", parts: list[str | ToolCall]) -> bool:
        """Go on in what may be a call; False if more text is needed."""
        if not self._calls:
            end = value.end(self._held)
            if end is None:
                return False
            self._calls = self._parsed(self._held[value.start : end])
            if not self._calls:
                return self._fail(parts, end)
        rest = self._held[value.at :].lstrip()
        start = len(self._held) - len(rest)
        if rest.startswith(self._form.end):
            return self._succeed(parts, start + len(self._form.end))
        return False if self._form.end.startswith(rest) else self._fail(parts, start)

    def _succeed(self, parts: list[str | ToolCall], end: int) -> bool:
        parts += self._calls
        self._held, self._value, self._calls = self._held[end:], None, []
        self._bare, self._after_call = self._form.bare, True
        return True

    def _fail(self, parts: list[str | ToolCall], end: int) -> bool:
        self._value, self._calls, self._bare = None, [], False
        self._give(parts, end)
        return True

    def _give(self, parts: list[str | ToolCall], count: int) -> None:
        """The first `count` letters of what is held are content."""
        if count:
            parts.append(self._held[:count])
            self._held, self._after_call = self._held[count:], False

    def _parsed(self, text: str) -> list[ToolCall]:
        """The calls that a JSON value holds; none unless all of it is calls of tools that were offered."""
        try:
            if text.startswith("["):
                written = msgspec.json.decode(text, type=list[_Written])
            else:
                written = [msgspec.json.decode(text, type=_Written)]
            calls = [call.call() for call in written]
        except (msgspec.MsgspecError, RecursionError):
            return []
        return calls if all(call.name in self._names for call in calls) else []


class _Written(msgspec.Struct):
    """A call as models write it."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw()
    parameters: msgspec.Raw = msgspec.Raw()

    def call(self) -> ToolCall:
        """The same with the object that holds the arguments; msgspec's errors if there is none."""
        raw = self.arguments or self.parameters
        text = bytes(raw).decode()
        if text.startswith('"'):  # an object in a string
            text = msgspec.json.decode(raw, type=str)
        msgspec.json.decode(text, type=dict[str, object])
        return ToolCall(self.name, text)


class _Value:
    """A JSON object or array in a text that only grows; blanks may stand before it."""

    _OUTSIDE, _INSIDE = re.compile(r'["{}\[\]]'), re.compile(r'["\\]')

    def __init__(self, begins: int) -> None:
        """`begins`: where in the text."""
        self.start: int | None = None  # of its first letter
        self.at = begins  # the text is read up to here
        self._depth, self._quoted = 0, False

    def end(self, text: str) -> int | None:
        """Where it ends, or where it turned out that there is none (`start` is None); None if more text is needed."""
        if self.start is None:
            self.at = len(text) - len(text[self.at :].lstrip())
            if self.at == len(text) or text[self.at] not in "{[":
                return None if self.at == len(text) else self.at
            self.start = self.at
        while match := (self._INSIDE if self._quoted else self._OUTSIDE).search(text, self.at):
            if match.group() == "\\":
                if match.end() == len(text):  # what it escapes has not come
                    self.at = match.start()
                    return None
                self.at = match.end() + 1
                continue
            self.at = match.end()
            if match.group() == '"':
                self._quoted = not self._quoted
            else:
                self._depth += 1 if match.group() in "{[" else -1
                if self._depth == 0:
                    return self.at
        self.at = len(text)
        return None
