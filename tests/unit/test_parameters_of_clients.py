"""Every parameter that OpenAI's and Anthropic's clients know is in one of the two columns: implemented, or refused.

The lists are those of the installed clients, so one that nobody here thought of fails the test.
"""

from typing import Any, get_type_hints

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.beta import message_count_tokens_params as beta_count_tokens_params
from anthropic.types.beta import message_create_params as beta_create_params
from openai.types import completion_create_params as completions
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses

from twofold.server.app import ENDPOINTS
from twofold.server.openapi import parameters

FORMS = [
    ("/v1/chat/completions", chat.CompletionCreateParamsStreaming),
    ("/v1/completions", completions.CompletionCreateParamsStreaming),
    ("/v1/responses", responses.ResponseCreateParamsStreaming),
    ("/v1/messages", message_create_params.MessageCreateParamsStreaming),
    ("/v1/messages", beta_create_params.MessageCreateParamsStreaming),
    ("/v1/messages/count_tokens", message_count_tokens_params.MessageCountTokensParams),
    ("/v1/messages/count_tokens", beta_count_tokens_params.MessageCountTokensParams),
]
HEADERS = {
    "betas",
    "user_profile_id",
    "workspace_id",
}  # which Anthropic's client puts there: tests/system/test_clients.py


@pytest.mark.parametrize(("path", "form"), FORMS, ids=[f"{path}:{form.__module__}" for path, form in FORMS])
def test_every_parameter_that_a_client_knows_is_implemented_or_refused_by_name(path: str, form: Any) -> None:
    (endpoint,) = [one for one in ENDPOINTS if one.path == path]
    known = {*parameters(endpoint), *(row.name for row in endpoint.fixed)}
    asked = {*get_type_hints(form)}
    if path.startswith("/v1/messages"):
        asked -= HEADERS
    assert len(asked) > 5
    assert asked - known == set()
