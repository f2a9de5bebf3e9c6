"""Every row of docs/openai.md is true: what it says is accepted is, what it says is refused is, by its name."""

from pathlib import Path
from typing import Any

import pytest
from fake_serving import TOOLS
from parameters import page
from served import HELLO, Served

from twofold.engine.going import begin
from twofold.server.app import ENDPOINTS
from twofold.server.endpoint import Endpoint
from twofold.server.openapi import parameters
from twofold.server.shelves import Shelves
from twofold.store.contexts import Contexts, Quota
from twofold.units import GIB

LEAST: dict[str, dict[str, Any]] = {  # the shortest body of each
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/messages": {"model": "tiny", "max_tokens": 9, "messages": HELLO},
    "/v1/messages/count_tokens": {"model": "tiny", "messages": HELLO},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [5]},
    "/v1/contexts": {"name": "snow"},
    "/v1/contexts/{name}/fork": {"name": "snow"},
    "/v1/contexts/{name}/rename": {"name": "snow"},
    "/v1/contexts/{name}/pin": {},
}
EXAMPLES: dict[str, Any] = {  # a value of each that is accepted
    "add_generation_prompt": False, "cache_control": {"type": "ephemeral"}, "context": "rain",
    "include": ["message.output_text.logprobs"], "add_special_tokens": False,
    "chat_template_kwargs": {"a": [1, {"b": None}]},
    "frequency_penalty": 0.5, "ignore_eos": True, "input": "hello", "instructions": "be brief",
    "logit_bias": {"5": 1.5}, "max_completion_tokens": 5, "max_output_tokens": 5, "max_tokens": 5,
    "messages": HELLO, "metadata": {}, "min_p": 0.1, "min_tokens": 2, "model": "tiny", "n": 2,
    "name": "snow", "pinned": False, "presence_penalty": -0.5, "priority": 1, "prompt": "hello",
    "prompt_cache_key": "a", "repetition_penalty": 1.2, "response_format": {"type": "text"}, "return_token_ids": True,
    "return_token_strs": True, "safety_identifier": "a", "seed": 7.0,
    "service_tier": "auto", "stop": ["a"], "stop_sequences": ["a"], "stop_token_ids": [5], "stream": True,
    "stream_options": {"include_usage": True}, "system": "be brief", "temperature": 0.5, "text": {},
    "thinking": {"type": "disabled"}, "tokens": [5, 6], "tool_choice": "auto",
    "tools": [{"type": "function", "function": {"name": "add"}}],
    "top_k": 5, "top_logprobs": 2, "top_p": 0.5, "user": "a",
}  # fmt: skip
OWN = {  # where a name means something else
    "/v1/messages": {"tools": [{"name": "add", "input_schema": {}}], "tool_choice": {"type": "auto"}},
    "/v1/messages/count_tokens": {"tools": [{"name": "add", "input_schema": {}}], "tool_choice": {"type": "auto"}},
    "/v1/responses": {"tools": [{"type": "function", "name": "add"}]},
    "/v1/chat/completions": {"logprobs": True},
    "/v1/completions": {"logprobs": 2},
}
WRONG = {"neither": "this nor that"}


def rows(*, fixed: bool) -> list[Any]:
    found: list[Any] = []
    for endpoint in ENDPOINTS:
        own = {row.name for row in endpoint.fixed}
        for name in parameters(endpoint):
            if (name in own) == fixed:
                found.append(pytest.param(endpoint, name, id=f"{endpoint.path}:{name}"))
    return found


def fixed_rows() -> list[Any]:
    return [
        pytest.param(endpoint, row, id=f"{endpoint.path}:{row.name}")
        for endpoint in ENDPOINTS
        for row in endpoint.fixed
    ]


@pytest.fixture
def served(roomy_path: Path, tmp_path: Path) -> Served:
    """A model that knows tools, and a context `rain`."""
    contexts = Contexts(tmp_path / "contexts", Quota(GIB))
    served = Served(roomy_path, TOOLS, shelves=Shelves(lambda owner: contexts))
    begin(contexts, "rain", served.serving.manifest, lambda: 0.0)
    return served


def status(served: Served, endpoint: Endpoint[Any], name: str, value: object) -> tuple[int, str | None]:
    """The status of the shortest body with `name`, and the parameter that its error names."""
    body = {**LEAST[endpoint.path], name: value}
    if (endpoint.path, name) == ("/tokenize", "messages"):
        del body["prompt"]
    answer = served.post(endpoint.path.replace("{name}", "rain"), body)
    error = {} if answer.status_code == 200 else answer.json()["error"]
    return answer.status_code, error.get("param", error["message"] if error else None)


def test_the_page_is_what_the_code_does() -> None:
    assert (Path(__file__).parents[2] / "docs/openai.md").read_text() == page()


@pytest.mark.parametrize(("endpoint", "name"), rows(fixed=False))
def test_a_parameter_that_is_implemented_is_accepted_and_a_wrong_value_is_refused_by_its_name(
    served: Served, endpoint: Endpoint[Any], name: str
) -> None:
    good = {**EXAMPLES, **OWN.get(endpoint.path, {})}[name]
    assert status(served, endpoint, name, good) == (200, None)
    wrong, named = status(served, endpoint, name, [WRONG])
    assert (wrong, name in (named or "")) == (400, True)


@pytest.mark.parametrize(("endpoint", "row"), fixed_rows())
def test_a_parameter_with_one_meaning_is_accepted_with_it_and_refused_by_name_otherwise(
    served: Served, endpoint: Endpoint[Any], row: Any
) -> None:
    for value in (*row.values, None):
        assert status(served, endpoint, row.name, value) == (200, None)
    for value in (WRONG, "x", 7, [WRONG]):
        wrong, named = status(served, endpoint, row.name, value)
        assert (wrong, row.name in (named or "")) == (400, True)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_a_parameter_that_is_not_listed_is_refused_by_name(served: Served, endpoint: Endpoint[Any]) -> None:
    for value in (1, None):
        code, named = status(served, endpoint, "unheard_of", value)
        assert (code, "unheard_of" in (named or "")) == (400, True)
