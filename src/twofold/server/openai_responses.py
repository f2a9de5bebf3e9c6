"""`/v1/responses`, as OpenAI defined it, remembering nothing: each request brings its whole input."""

from starlette.responses import Response

from twofold.engine.request import Limits, Piece, Request, Sampling
from twofold.engine.spoken import Speech
from twofold.engine.toolbox import Toolbox
from twofold.server.endpoint import Call, Endpoint, answered
from twofold.server.openai_chat import conversation
from twofold.server.parameters import coldest, drawn_seed
from twofold.server.response_answers import Reply, ResponseWriting, State
from twofold.server.response_input import RESPOND_FIXED, Respond


async def respond(body: Respond, call: Call) -> Response:
    """Answer one input."""
    call.offer.check(body.model)
    prompt = await conversation(call, body.messages, {}, Toolbox())
    most = call.offer.room(call.serving, len(prompt.ids), body.max_output_tokens)
    form = body.text.format if body.text else None
    request = Request(
        prompt=prompt.ids,
        sampling=Sampling(temperature=coldest(body.temperature), top_p=body.top_p, seed=drawn_seed()),
        limits=Limits(max_tokens=most),
        constraint=form.constraint() if form else None,
        owner=call.record.owner,
    )
    answers = call.submit([request])
    writing = ResponseWriting(State(body, call, answers[0]), Speech(Toolbox(), opened=prompt.opened))
    if body.stream:
        return call.stream(answers, writing)
    (whole,) = await call.wholes(answers)
    writing.piece(0, Piece(whole.text, finish=whole.finish))
    return answered(writing.ended())


ENDPOINT = Endpoint("/v1/responses", Respond, Reply, respond, RESPOND_FIXED, streams=True)
