"""`/v1/responses`, as OpenAI defined it, remembering nothing: each request brings its whole input."""

from starlette.responses import Response

from twofold.engine.request import Limits, Request, Sampling
from twofold.engine.spoken import Speech
from twofold.engine.toolbox import Toolbox, check_calls, one_form, toolbox
from twofold.server.endpoint import Call, Endpoint, answered
from twofold.server.openai_chat import conversation
from twofold.server.parameters import coldest, drawn_seed
from twofold.server.response_answers import ResponseWriting, State
from twofold.server.response_input import RESPOND_FIXED, RESPOND_IMPLIED, RESPOND_RULES, NamedChoice, Respond
from twofold.server.response_objects import Reply


async def respond(body: Respond, call: Call) -> Response:
    """Answer one input."""
    call.offer.check(body.model)
    tools = _toolbox(body, call)
    prompt = await conversation(call, body.messages, {}, tools)
    most = call.offer.room(call.serving, len(prompt.ids), body.max_output_tokens)
    form = body.text.format if body.text else None
    request = Request(
        prompt=prompt.ids,
        sampling=Sampling(temperature=coldest(body.temperature), top_p=body.top_p, seed=drawn_seed()),
        limits=Limits(max_tokens=most),
        logprobs=body.told,
        constraint=one_form(form.constraint() if form else None, tools, "text"),
        owner=call.record.owner,
    )
    answers = await call.submit([request])
    writing = ResponseWriting(State(body, call, answers[0]), Speech(tools, opened=prompt.opened))
    if body.stream:
        return call.stream(answers, writing)
    for piece in await call.pieces(answers[0]):
        writing.piece(0, piece)
    writing.end()
    return answered(writing.reply())


def _toolbox(body: Respond, call: Call) -> Toolbox:
    if body.has_calls:
        check_calls(call.tokenizer, "input")
    tools = [tool.tool() for tool in body.tools or ()]
    if isinstance(body.tool_choice, NamedChoice):
        return toolbox(call.tokenizer, tools, "required", only=body.tool_choice.name)
    return toolbox(call.tokenizer, tools, body.tool_choice or "auto")


ENDPOINT = Endpoint(
    "/v1/responses", Respond, Reply, respond, RESPOND_FIXED, streams=True, rules=RESPOND_RULES, implied=RESPOND_IMPLIED
)
