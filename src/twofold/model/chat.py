"""From a conversation to the text a model was trained to continue: the model's own chat template.

The template is a Jinja program in the model file, in the dialect that Transformers defines: `messages`,
`add_generation_prompt`, the special tokens by name, `raise_exception`, `strftime_now`, `tojson`. It runs in
the metered sandbox of `chat_sandbox`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from jinja2 import TemplateError
from jinja2.exceptions import SecurityError

from twofold.errors import ModelError, RequestError, one_line
from twofold.model.chat_filters import meter_of
from twofold.model.chat_meter import VALUE_LIMIT, TooCostly
from twofold.model.chat_sandbox import ChatSandbox, MessagesRefused
from twofold.model.tokenizer import TokenizerData
from twofold.model.tool_calls import ToolCall
from twofold.units import MIB

# What an expression of a template, or Python's compiler on what Jinja makes of one, can raise.
_EVALUATION_ERRORS = (
    TemplateError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError,
    SyntaxError, TypeError, ValueError,
)  # fmt: skip
_NESTING_LIMIT = 100
_OWN_NAMES = frozenset(("messages", "add_generation_prompt", "strftime_now"))


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation; `role` is "system", "user", "assistant", "tool" or what else the model knows.

    An assistant's turn may hold calls of tools instead of content, and what it thought before; a tool's turn holds the
    result of the call `tool_call_id`, of the tool `name`.
    """

    role: str
    content: str | None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None

    def given(self) -> dict[str, Any]:
        """The message as templates know it, in the form of Transformers: arguments are an object, what is not there is
        left out. RequestError if the arguments of a call are not a JSON object."""
        given: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            given["tool_calls"] = [_given_call(call) for call in self.tool_calls]
        optional = {name: getattr(self, name) for name in ("tool_call_id", "name", "reasoning_content")}
        return given | {name: value for name, value in optional.items() if value is not None}


def _given_call(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(call.arguments, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise RequestError(
            f"the arguments of a call of {one_line(call.name)[:60]!r} are not a JSON object; give them as one"
        ) from None
    if not _is_plain(arguments):
        raise RequestError(f"the arguments of a call are nested deeper than {_NESTING_LIMIT}; make them flatter")
    given = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return given | ({"id": call.id} if call.id else {})


class ChatTemplate:
    """A compiled chat template. Safe to share between threads.

    `special_tokens` are texts the template may name, such as `bos_token`. Raises ModelError if `source` does
    not compile or uses something that the sandbox does not have.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        self._special_tokens = dict(special_tokens or {})
        try:
            self._template = ChatSandbox().compiled(source)
        except _EVALUATION_ERRORS as error:
            raise ModelError(
                f"the model's chat template does not compile: {_one_line(error)}; send a plain prompt instead"
            ) from None

    @classmethod
    def of(cls, data: TokenizerData) -> "ChatTemplate":
        """The template of a model. Raises ModelError if it has none."""
        if data.chat_template is None:
            raise ModelError("the model has no chat template; send a plain prompt instead")
        named = {"bos": data.bos_id, "eos": data.eos_id, "unk": data.unknown_id, "pad": data.padding_id}
        tokens = {f"{name}_token": data.tokens[i] for name, i in named.items() if i is not None}
        return cls(data.chat_template, tokens)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        now: datetime | None = None,
        **variables: object,
    ) -> str:
        """The conversation as text; with `add_generation_prompt` it ends where the assistant is to speak.

        `variables` are further names for the template (`tools`, `enable_thinking`): strings, numbers, true,
        false, None, lists and dictionaries. `now` is what `strftime_now` tells; messages for a template that
        asks for the time without it are refused. Encode the result with `add_bos=False`: a template writes
        its own beginning.

        Raises RequestError if there are no messages, if they are longer than VALUE_LIMIT, and if the template
        refuses them or fails on them; ModelError if the template leaves the sandbox or costs more than a
        rendering may.
        """
        _check_given(messages, variables)
        given: dict[str, Any] = {"tools": None, "documents": None, **self._special_tokens, **variables}
        given["messages"] = [message.given() for message in messages]
        given["add_generation_prompt"] = add_generation_prompt
        given["strftime_now"] = _clock(now)
        context = self._template.new_context(given)
        try:
            return meter_of(context).read(self._template.root_render_func(context))
        except MessagesRefused as error:
            raise RequestError(f"the model's chat template refuses these messages: {_one_line(error)}") from None
        except (SecurityError, TooCostly) as error:
            raise ModelError(
                f"the model's chat template was stopped: {_one_line(error)}; send a plain prompt instead"
            ) from None
        except _EVALUATION_ERRORS as error:
            raise RequestError(
                f"the model's chat template fails on these messages: {_one_line(error)}; "
                "check their roles and order, or send a plain prompt"
            ) from None


def _clock(now: datetime | None) -> Any:
    def strftime_now(form: str) -> str:
        if now is None:
            raise MessagesRefused("it asks for the date, and none was given")
        return now.strftime(form)

    return strftime_now


def _check_given(messages: Sequence[Message], variables: Mapping[str, object]) -> None:
    if not messages:
        raise RequestError("the conversation is empty; send at least one message")
    if sum(map(_length, messages)) > VALUE_LIMIT:
        raise RequestError(f"the messages are longer than {VALUE_LIMIT // MIB} MiB; shorten the conversation")
    taken = sorted(_OWN_NAMES & variables.keys())
    if taken:
        raise RequestError(f"the chat template variable {taken[0]!r} is set by Twofold; use another name")
    for name, value in variables.items():
        if not _is_plain(value):
            raise RequestError(
                f"the chat template variable {name!r} is not plain data; "
                f"use strings, numbers, booleans, null, lists and objects at most {_NESTING_LIMIT} deep"
            )


def _length(message: Message) -> int:
    texts = (message.content, message.reasoning_content, *(call.arguments for call in message.tool_calls))
    return sum(len(text) for text in texts if text is not None)


def _is_plain(value: object, depth: int = 0) -> bool:
    if depth > _NESTING_LIMIT:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item, depth + 1) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item, depth + 1) for item in value)
    return value is None or isinstance(value, str | int | float)


def _one_line(error: BaseException) -> str:
    """The message of a foreign error, short and without line breaks."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."
