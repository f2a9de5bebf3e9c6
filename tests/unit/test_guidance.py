"""Constraints: what comes out obeys them, whatever the model says; what is wrong or hostile is refused in time."""

import dataclasses
import json
import re
import time
from pathlib import Path

import jsonschema
import msgspec
import pytest
from babble import babble
from engines import engine, native
from tiny_gguf import SPECIAL_TOKENS, tokens

from twofold.engine.constraint import Constraint
from twofold.engine.engine import Engine
from twofold.engine.generate import Generation
from twofold.engine.limits import Limits
from twofold.engine.sampling import Sampling
from twofold.errors import RequestError
from twofold.model.checkpoint import Checkpoint
from twofold.model.tokenizer import Tokenizer

VOCABULARY = len(tokens())
END = SPECIAL_TOKENS.index("<|im_end|>")
SPECIAL = range(len(SPECIAL_TOKENS))
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b\n", "ü"]}, "maxItems": 3},
        "home": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/place"}]},
    },
    "required": ["name", "age", "home"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "properties": {"x": {"const": 1.5}}, "required": ["x"]}},
}
SCHEMAS = [
    PERSON,
    {"type": "boolean"},
    {"enum": ["yes", "no", 5, None]},
    {"type": "array", "items": {"type": "integer", "minimum": -9, "maximum": 9}, "minItems": 2, "maxItems": 4},
    {"type": "string", "pattern": "^[a-z]{2,4}-[0-9]{1,3}$"},
    {"type": "string", "format": "date"},
]


@pytest.fixture(scope="module")
def tokenizer(tiny_path: Path) -> Tokenizer:
    with Checkpoint.open(tiny_path) as checkpoint:
        return Tokenizer(checkpoint.tokenizer)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_answer_is_json_that_is_valid_under_the_schema(tokenizer: Tokenizer, schema: dict[str, object]) -> None:
    for seed in range(8):
        text = babble(tokenizer, Constraint("json_schema", json.dumps(schema)), seed)
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())


def test_an_expression_is_matched_from_end_to_end(tokenizer: Tokenizer) -> None:
    for seed in range(8):
        assert re.fullmatch(
            "(yes|no), [a-z]{2,9}!", babble(tokenizer, Constraint("regex", "(yes|no), [a-z]{2,9}!"), seed)
        )


def test_a_minimum_of_tokens_does_not_break_a_constraint(tokenizer: Tokenizer) -> None:
    assert babble(tokenizer, Constraint("regex", "abc"), 0, Limits(min_tokens=50)) == "abc"
    assert babble(tokenizer, Constraint("regex", ""), 0, Limits(min_tokens=50)) == ""
    assert len(babble(tokenizer, Constraint("regex", "[a-c]*"), 0, Limits(min_tokens=50))) >= 50


def generate(fast: Engine, tokenizer: Tokenizer, sampling: Sampling, constraint: Constraint | None) -> Generation:
    limits = Limits(60, ignore_end=True)
    generation = Generation(fast, fast.open(), tokenizer, sampling, limits, constraint=constraint)
    for _ in generation.run([5, 6, 7]):
        pass
    return generation


def test_a_tiny_random_model_obeys_too(tiny_path: Path, tokenizer: Tokenizer) -> None:
    with native() as backend, engine(tiny_path, backend) as fast:
        generation = generate(
            fast, tokenizer, Sampling(temperature=1, seed=4), Constraint("json_schema", json.dumps(SCHEMAS[3]))
        )
    assert generation.finish_reason == "stop"
    jsonschema.validate(json.loads(generation.text), SCHEMAS[3])


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.9, top_p=0.9, seed=7)])
def test_a_constraint_that_allows_everything_changes_no_token(
    tiny_path: Path, tokenizer: Tokenizer, sampling: Sampling
) -> None:
    text = [token for token in range(VOCABULARY) if tokenizer.token_bytes(token).isascii() and token not in SPECIAL]
    sampling = dataclasses.replace(
        sampling, logit_bias=tuple((token, -100.0) for token in sorted({*range(VOCABULARY)} - {*text}))
    )
    with native() as backend, engine(tiny_path, backend) as fast:
        free = generate(fast, tokenizer, sampling, None)
        bound = generate(fast, tokenizer, sampling, Constraint("grammar", r"start: /(.|\n)*/"))
    assert bound.token_ids == free.token_ids
    assert bound.logits_digest == free.logits_digest


def nested(depth: int) -> str:
    return '{"type":"array","items":' * depth + "true" + "}" * depth


# 5 · 10^8 ways to read one letter
AMBIGUOUS = "\n".join(
    [
        "start: a a a a a",
        *(f"{left}: {f'{right} ' * 10}" for left, right in zip("abcdefgh", "bcdefghi", strict=True)),
        'i: "x"',
    ]
)
HOSTILE = [
    Constraint("json_schema", "{"),
    Constraint("json_schema", "5"),
    Constraint("json_schema", '{"a": NaN}'),
    Constraint("json_schema", '{"type": "nothing"}'),
    Constraint("json_schema", '{"not": {"type": "string"}}'),  # what is not implemented is not ignored
    Constraint("json_schema", '{"$ref": "file:///etc/passwd"}'),
    Constraint("json_schema", '{"$ref": "http://127.0.0.1:1/x.json"}'),
    Constraint("json_schema", '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}'),
    Constraint("json_schema", nested(500)),
    Constraint("json_schema", nested(10_000)),
    Constraint("json_schema", "[" * 100_000),
    Constraint("json_schema", '"' + "x" * 300_000 + '"'),
    Constraint("json_schema", '"\ud800"'),
    Constraint("json_schema", json.dumps({"allOf": [{"type": "string", "pattern": f".*{i}.*"} for i in range(30)]})),
    Constraint("regex", "["),
    Constraint("regex", "(" * 5000 + "a" + ")" * 5000),
    Constraint("regex", "(?=a)b"),
    Constraint("grammar", ""),
    Constraint("grammar", "start: a"),
    Constraint("grammar", "start: " + "(" * 5000 + '"a"' + ")" * 5000),
    Constraint("grammar", '%include "/etc/passwd"\nstart: "a"'),
    Constraint("grammar", AMBIGUOUS),
]  # fmt: skip


@pytest.mark.parametrize("constraint", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_wrong_or_too_costly_is_refused_in_bounded_time(tokenizer: Tokenizer, constraint: Constraint) -> None:
    start = time.process_time()
    with pytest.raises(RequestError, match=r"constraint|json_schema|regex|grammar") as refused:
        babble(tokenizer, constraint, 0)
    assert time.process_time() - start < 3
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_model_without_an_end_token_can_be_constrained(tokenizer: Tokenizer) -> None:
    plain = tokenizer.data.token_types.replace(b"\x03", b"\x01")  # no control token that is known to end a turn
    endless = Tokenizer(msgspec.structs.replace(tokenizer.data, eos_id=None, token_types=plain))
    assert not endless.end_ids
    assert json.loads(babble(endless, Constraint("json_schema", '{"enum": [[], 1]}'), 0)) in ([], 1)
