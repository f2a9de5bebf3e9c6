"""Chat templates: the dialect, its errors, and programs that mean harm."""

import time
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import ModelError, RequestError
from twofold.model.chat import ChatTemplate, Message
from twofold.model.chat_meter import VALUE_LIMIT, WORK_LIMIT
from twofold.model.strings import Strings
from twofold.model.tokenizer import TokenizerData
from twofold.model.tool_calls import ToolCall, ToolCallReader, format_of

HELLO = [Message("system", "Be brief."), Message("user", "Hi!")]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message.content "
    "+ '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def render(source: str, **variables: Any) -> str:
    return ChatTemplate(source).render(HELLO, **variables)


def test_a_conversation_is_written_turn_by_turn() -> None:
    turns = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n"
    assert render(CHATML) == turns + "<|im_start|>assistant\n"
    assert render(CHATML, add_generation_prompt=False) == turns


@given(st.text(), st.text())
def test_content_is_never_read_as_template(role: str, content: str) -> None:
    template = ChatTemplate("{{ messages[0].role }}|{{ messages[0]['content'] }}")
    assert template.render([Message(role, content)]) == f"{role}|{content}"
    assert template.render([Message("{{ 1 }}", "{% endfor %}")]) == "{{ 1 }}|{% endfor %}"


def test_block_tags_take_their_line_and_its_indent_with_them() -> None:
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ {'k': 'é<漢>'} | tojson }}", '{"k": "é<漢>"}'),
        ("{{ [1, 2] | tojson(indent=1) }}", "[\n 1,\n 2\n]"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% for i in range(9) if i is odd %}{{ i }}{% endfor %}", "1357"),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 2 %}{% endfor %}{{ ns.n }}",
            "4",
        ),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(1) ~ f('a') }}", "<1><a>"),
        ("{% macro f() %}({{ caller() }}){% endmacro %}{% call f() %}x{% endcall %}", "(x)"),
        ("{{ messages | map(attribute='role') | join('+') }}", "system+user"),
        ("{{ messages | selectattr('role', 'in', ['user']) | list | length }}", "1"),
        (
            "{{ 'a-b-c'.split('-')[1:] | join }}{{ 'x'.replace('x', 'yy') }}{{ ', '.join(['a', 'b']) }}",
            "bcyya, b",
        ),
        ("{{ ' x ' | trim }}{{ 'aXa'.strip('a') }}{{ 'a\nb' | indent(2) }}", "xXa\n  b"),
        ("{{ 2 * 3 }}{{ 'ab' * 2 }}{{ 2 * [1] }}{{ 2 ** 8 }}{{ 2 ** -1 }}{{ 7 % 4 }}", "6abab[1, 1]2560.53"),
        ("{% generation %}{{ messages[1].content }}{% endgeneration %}", "Hi!"),
        ("{{ nothing }}{{ messages[0].nothing is defined }}{{ tools is none }}", "FalseTrue"),
        ("{% set x %}a{% endset %}{{ x + 'b' }}{{ 'b' in x }}{{ x == 'a' }}", "abFalseTrue"),
        (
            "{{ (1, 2) }}{{ [1, [2]] }}{% for a, b in {'k': 1}.items() %}{{ a }}{{ b }}{% endfor %}",
            "(1, 2)[1, [2]]k1",
        ),
    ],
)
def test_the_dialect_of_published_templates_is_understood(source: str, expected: str) -> None:
    assert render(source) == expected


def test_special_tokens_and_variables_are_there_by_name() -> None:
    template = ChatTemplate("{{ bos_token }}{{ tools[0].name }}", {"bos_token": "<s>"})
    assert template.render(HELLO, tools=[{"name": "f"}]) == "<s>f"


def test_a_models_template_knows_the_models_tokens() -> None:
    letters = [chr(256 + byte) for byte in range(4)]
    source = "{{ bos_token }}{{ eos_token }}{{ unk_token is defined }}"
    data = TokenizerData(
        "gpt2", "gpt-2", Strings.of(letters), bytes([3] * 4), Strings.of([]), bos_id=2, eos_id=3, chat_template=source
    )
    assert ChatTemplate.of(data).render(HELLO) == letters[2] + letters[3] + "False"


def test_a_model_without_a_template_is_refused() -> None:
    with pytest.raises(ModelError, match="has no chat template"):
        ChatTemplate.of(TokenizerData("gpt2", "gpt-2", Strings.of(["a"]), bytes([1]), Strings.of([])))


def test_the_time_is_the_callers() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}")
    assert template.render(HELLO, now=datetime(2024, 7, 26, tzinfo=UTC)) == "26 Jul 2024"
    with pytest.raises(RequestError, match="asks for the date"):
        template.render(HELLO)


def test_an_empty_conversation_is_refused() -> None:
    with pytest.raises(RequestError, match="send at least one message"):
        ChatTemplate(CHATML).render([])


def test_the_words_of_raise_exception_reach_the_user() -> None:
    with pytest.raises(RequestError, match=r"refuses these messages: roles must alternate, got user$"):
        render("{{ raise_exception('roles must\n alternate, got ' + messages[1].role) }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' + 1 }}",
        "{{ 1 // 0 }}",
        "{{ messages[9].content }}",
        "{{ nothing.more }}",
        "{{ nothing() }}",
        "{{ nothing | tojson }}",
        "{{ 'x'.index('y') }}",
        "{% for x in 5 %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 2.0 ** 99999 }}",
        "{{ 10 ** 1000 | float }}",
        "{{ {[]: 1} }}",
        "{{ dict(1) }}",
        "{{ range(10 ** 9) }}",
    ],
)
def test_a_failing_template_is_a_request_error_in_one_line(source: str) -> None:
    with pytest.raises(RequestError, match=r"^the model's chat template fails on these messages: .+") as caught:
        render(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{% for %}",
        "{{",
        "{% endif %}",
        "{{ x | no_such_filter }}",
        "{{ x is no_such_test }}",
        "{% include 'x' %}",
        "{% import 'x' as x %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block x %}{% endblock %}",
        "{% filter upper %}{% endfilter %}",
        "{% set x | upper %}{% endset %}",
        "{% autoescape true %}{% endautoescape %}",
        "{{ 'x' | center(10) }}",
        "{{ 'x' | attr('y') }}",
        "{% for x in y %}" * 30 + "{% endfor %}" * 30,
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
        "{{ " + "9" * 10_000 + " }}",
        "x" * 300_000,
    ],
    ids=lambda source: source[:24],
)
def test_a_template_that_does_not_compile_is_a_model_error_in_one_line(source: str) -> None:
    with pytest.raises(ModelError, match=r"^the model's chat template does not compile: .+") as caught:
        ChatTemplate(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__'].x }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({}) }}",
        "{{ messages[0].pop('role') }}",
        "{{ raise_exception.__globals__.x }}",
        "{{ namespace.__init__.x }}",
        "{{ namespace(a=1)._Namespace__attrs.x }}",
        "{{ dict.fromkeys([1]) }}",
        "{{ self._TemplateReference__context.x }}",
        "{{ range.__globals__.x }}",
        "{% for x in [1] %}{{ loop._iterable.x }}{% endfor %}",
        "{% macro f() %}{% endmacro %}{{ f._environment.x }}",
        "{{ strftime_now.__closure__[0] }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '%s' % messages }}",
        "{{ 'x'.encode('utf-16').x }}",
        "{{ 'x'.ljust(10) }}",
        "{{ 'x'.translate({}) }}",
    ],
)
def test_leaving_the_sandbox_is_a_model_error(source: str) -> None:
    with pytest.raises(ModelError, match=r"^the model's chat template was stopped: ") as caught:
        render(source)
    assert "\n" not in str(caught.value)


DOUBLE = (
    "{{% set ns = namespace(x={start}) %}}{{% for i in range(99) %}}{{% set ns.x = {step} %}}{{% endfor %}}"
    "{{{{ ns.x }}}}"
)
BIG = "{% set big = 'ab' * 4000000 %}"
PATH = "{% set path = '0.' * 4000000 %}"
MANY = "{% for i in range(100000) %}{% for j in range(100000) %}"
DONE = "{% endfor %}{% endfor %}"
HOSTILE = {
    "nested loops": MANY + DONE,
    "nested loops that print": MANY + "x" * 1000 + DONE,
    "loops that pass nothing": "{% for i in range(100000) %}{% for j in range(100000) if false %}" + DONE,
    "a loop over a filter that passes nothing": MANY + "{{ range(100000) | select('none') | list }}" + DONE,
    "many expressions in a loop": MANY + "{% if messages and add_generation_prompt %}{% endif %}" * 300 + DONE,
    "recursive loop": "{% for x in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 60 }}{% endfor %}",
    "recursive macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "call block": "{% macro f() %}" + MANY + "{{ caller() }}" + DONE + "{% endmacro %}{% call f() %}{% endcall %}",
    "repeated text": "{{ 'a' * 10 ** 12 }}",
    "repeated list": "{{ [0] * 10 ** 12 }}",
    "repeated from the left": "{{ 10 ** 12 * 'a' }}",
    "repeated list of texts": BIG + "{{ [big] * 100 }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "product": DOUBLE.format(start="3", step="ns.x * ns.x"),
    "doubled by +": DOUBLE.format(start="'a'", step="ns.x + ns.x"),
    "doubled by ~": DOUBLE.format(start="'a'", step="ns.x ~ ns.x"),
    "doubled by join": DOUBLE.format(start="'a'", step="[ns.x, ns.x] | join"),
    "doubled by the method join": DOUBLE.format(start="'a'", step="''.join([ns.x, ns.x])"),
    "doubled by replace": DOUBLE.format(start="'a'", step="ns.x | replace('a', 'aa')"),
    "doubled by the method replace": DOUBLE.format(start="'a'", step="ns.x.replace('a', 'aa')"),
    "doubled by tojson": DOUBLE.format(start="'\"'", step="ns.x | tojson"),
    "doubled by list": DOUBLE.format(start="[0]", step="ns.x + ns.x"),
    "doubled by nesting": DOUBLE.format(start="[0]", step="[ns.x, ns.x]"),
    "doubled by nesting tuples": DOUBLE.format(start="[0]", step="(ns.x, ns.x)"),
    "doubled by nesting dictionaries": DOUBLE.format(start="[0]", step="{1: ns.x, 2: ns.x}"),
    "doubled by dict": DOUBLE.format(start="[0]", step="dict(a=ns.x, b=ns.x)"),
    "doubled in a macro": "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}" + DOUBLE.format(start="'a'", step="f(ns.x)"),
    "one long concatenation": BIG + "{{ " + " ~ ".join(["big"] * 1000) + " }}",
    "one long set block": BIG + "{% set x %}" + "{{ big }}" * 1000 + "{% endset %}",
    "replace of nothing": BIG + "{{ 'ab' | replace('', big) | replace('', big) }}",
    "method replace of nothing": BIG + "{{ big.replace('', big) }}",
    "join with a long separator": BIG + "{{ range(1000) | join(big) }}",
    "method join with a long separator": BIG + "{{ big.join('a' * 1000) }}",
    "deep indentation": "{{ ('\n' * 1000000) | indent(1000000) }}",
    "indentation by a long text": BIG + "{{ ('\n' * 1000) | indent(big) }}",
    "JSON with long separators": BIG + "{{ range(1000) | list | tojson(separators=(big, big)) }}",
    "text as a list": BIG + "{{ big | list | length }}",
    "text sorted": BIG + "{{ big | sort | length }}",
    "text split": BIG + "{{ big.split('a') | length }}",
    "text stripped of a text": BIG + "{{ big.strip(big ~ 'c') }}",
    "text trimmed of a text": BIG + "{{ big | trim(big) }}",
    "text sought backwards": BIG + "{{ big.rfind(big[1:]) }}",
    "long texts compared": BIG + MANY + "{{ big == big ~ '' }}" + DONE,
    "long texts sliced": BIG + MANY + "{% set x = big[1:] %}" + DONE,
    "long texts searched": BIG + MANY + "{% set x = 'c' in big %}" + DONE,
    "long texts in upper case": BIG + MANY + "{% set x = big.upper() %}" + DONE,
    "long texts counted": BIG + MANY + "{% set x = big is eq('c' ~ big) %}" + DONE,
    "map to long texts": BIG + "{{ range(10000) | map('replace', '0', big) | list | length }}",
    "map to default": BIG + "{{ [x] * 10000 | map('default', big) | map('upper') | list | length }}",
    "map along a path": PATH + "{{ (['a'] * 9999) | map(attribute=path) | list | length }}",
    "join along a path": PATH + "{{ (['a'] * 9999) | join('', path) | length }}",
    "sort along a path": PATH + "{{ (['a'] * 9999) | sort(attribute=path) | length }}",
    "select along a path": PATH + "{{ (['a'] * 9999) | selectattr(path) | list | length }}",
    "select among many": "{{ range(50000) | select('in', range(50000) | list | reverse) | list | length }}",
    "a long range as a list": "{% set x = range(100000) | list %}" + MANY + "{{ x | length }}" + DONE,
    "filters on filters": "{{ range(100000) " + "| map('string') | map('int') " * 25 + "| list | length }}",
}


GROWING = frozenset(("deep", "indentation", "join", "JSON", "map", "method", "one", "power", "repeated"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_stopped_soon(name: str) -> None:
    template = ChatTemplate(HOSTILE[name])
    start = time.process_time()
    with pytest.raises((ModelError, RequestError), match=r"^the model's chat template ") as caught:
        template.render(HELLO)
    assert time.process_time() - start < 30  # measured: most in milliseconds, the slowest in a few seconds
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name.split()[0] in GROWING])
def test_a_hostile_template_takes_little_memory(name: str) -> None:
    template = ChatTemplate(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises((ModelError, RequestError)):
            template.render(HELLO)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * WORK_LIMIT


def test_the_limits_leave_room_for_a_long_conversation() -> None:
    messages = [Message("user", "long " * 200) for _ in range(2000)]
    rendered = ChatTemplate(CHATML).render(messages)
    assert sum(len(message.content) for message in messages) < len(rendered) < VALUE_LIMIT


def test_messages_beyond_the_limit_are_the_requests_fault() -> None:
    with pytest.raises(RequestError, match="longer than 16 MiB"):
        ChatTemplate(CHATML).render([Message("user", "a" * (VALUE_LIMIT + 1))])


def test_one_rendering_does_not_spend_for_the_next() -> None:
    template = ChatTemplate("{% for i in range(50000) %}{% endfor %}{{ 'a' * 4000000 }}")
    assert {len(template.render(HELLO)) for _ in range(20)} == {4_000_000}


@pytest.mark.parametrize("name", ["add_generation_prompt_", "strftime_now"])
def test_names_of_ours_cannot_be_taken(name: str) -> None:
    if name == "strftime_now":
        with pytest.raises(RequestError, match="'strftime_now' is set by Twofold"):
            render("x", **{name: "y"})
    else:
        assert render("{{ add_generation_prompt_ }}", **{name: "y"}) == "y"


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    "value",
    [object(), len, {1: 2}, [b"x"], {"a": {"b": {3}}}, nested(500)],
    ids=lambda value: type(value).__name__,
)
def test_variables_that_are_not_plain_data_are_refused(value: object) -> None:
    with pytest.raises(RequestError, match="'v' is not plain data"):
        render("x", v=value)


WITH_TOOLS = """
{%- if tools %}{{ '<|im_start|>system\nTools: ' ~ (tools | tojson) ~ '<|im_end|>\n' }}{% endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}{{ '<tool_response>' ~ message.content ~ '</tool_response>\n' }}
    {%- elif message.tool_calls %}
        {%- for call in message.tool_calls %}
            {{- '<tool_call>\n{"name": "' ~ call.function.name ~ '", "arguments": ' }}
            {{- (call.function.arguments | tojson) ~ '}\n</tool_call>\n' }}
        {%- endfor %}
    {%- else %}{{ message.role ~ ': ' ~ message.content ~ '\n' }}
    {%- endif %}
{%- endfor %}"""
CALL = ToolCall("add", '{"a": 1, "b": "<é>"}', "call-1")


def test_tools_calls_and_their_results_are_written_in_the_models_own_form() -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    messages = [
        Message("user", "1 + <é>?"),
        Message("assistant", None, (CALL,)),
        Message("tool", "2", tool_call_id="call-1", name="add"),
    ]
    text = ChatTemplate(WITH_TOOLS).render(messages, tools=tools)
    assert text.splitlines() == [
        "<|im_start|>system",
        'Tools: [{"type": "function", "function": {"name": "add", "parameters": {}}}]<|im_end|>',
        "user: 1 + <é>?",
        "<tool_call>",
        '{"name": "add", "arguments": {"a": 1, "b": "<é>"}}',
        "</tool_call>",
        "<tool_response>2</tool_response>",
    ]
    reader = ToolCallReader(format_of(WITH_TOOLS), ["add"])
    written = text[text.index("<tool_call>") : text.index("<tool_response>")]
    assert reader.push(written) + reader.finish() == [ToolCall(CALL.name, CALL.arguments)]


def test_a_message_tells_templates_what_it_has_and_nothing_else() -> None:
    assert Message("user", "Hi!").given() == {"role": "user", "content": "Hi!"}
    assert Message("assistant", None, (CALL,), reasoning_content="so").given() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "<é>"}}, "id": "call-1"}
        ],
        "reasoning_content": "so",
    }
    assert Message("tool", "2", tool_call_id="7", name="add").given() == {
        "role": "tool",
        "content": "2",
        "tool_call_id": "7",
        "name": "add",
    }


@pytest.mark.parametrize(
    "arguments", ["", "{", "[1]", "null", '{"a": 1} x', "[" * 100_000, '{"a": ' * 200 + "1" + "}" * 200]
)
def test_arguments_that_are_no_object_are_refused_by_the_name_of_their_tool(arguments: str) -> None:
    with pytest.raises(RequestError, match="'add'"):
        ChatTemplate(WITH_TOOLS).render([Message("assistant", None, (ToolCall("add", arguments),))])
