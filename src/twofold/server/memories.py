"""`/v1/memories`: the two memories as they are now, for the page and for whoever draws a picture of his own."""

import time

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from twofold.engine.serving_status import ServingStatus
from twofold.engine.work import Processor
from twofold.server.endpoint import answered
from twofold.server.offer import Offer

PATH = "/v1/memories"
router = APIRouter()


class ContextFigures(msgspec.Struct, frozen=True):
    """Context memory. Now: answers and pages. Since the start: tokens and time."""

    running: int
    waiting: int
    swapped: int  # of those that wait: whose pages are outside the pool
    pages: int
    pages_used: int
    pages_cached: int
    prompt_tokens: int
    cached_tokens: int  # of those: not computed
    generated_tokens: int
    worked_ns: int
    layers_ns: list[int]  # the same by layer


class WeightFigures(msgspec.Struct, frozen=True):
    """Weight memory. Now: processors. Since the start: everything else."""

    processors: list[Processor]
    steps: int
    rows: int  # of those steps
    calls: int
    failovers: int
    worked_ns: int
    link_ns: int  # the rest of the time that calls took
    segments_ns: list[int]  # `worked_ns` by segment; the last is the end of the step


class Memories(msgspec.Struct, frozen=True):
    """A reply: figures of one moment. Rates are differences of two replies."""

    model: str
    seconds: float  # on a clock of the server's that never goes back
    context: ContextFigures
    weights: WeightFigures


@router.get(PATH)
async def memories(request: Request) -> Response:
    """The figures; 503 with the reason and the progress while nobody answers."""
    offer: Offer = request.app.state.offer
    return answered(figures(offer.readiness.serving.status(), offer.names[0], time.monotonic()))


def figures(status: ServingStatus, model: str, seconds: float) -> Memories:
    """The reply."""
    work = status.work
    context = ContextFigures(
        running=status.running,
        waiting=status.waiting,
        swapped=status.swapped,
        pages=status.pages,
        pages_used=status.pages_used,
        pages_cached=status.pages_cached,
        prompt_tokens=status.prompt_tokens,
        cached_tokens=status.cached_tokens,
        generated_tokens=status.generated_tokens,
        worked_ns=work.context_ns,
        layers_ns=work.layers_ns,
    )
    weights = WeightFigures(
        processors=work.processors,
        steps=status.steps,
        rows=status.rows,
        calls=work.calls,
        failovers=work.failovers,
        worked_ns=work.weights_ns,
        link_ns=work.link_ns,
        segments_ns=work.segments_ns,
    )
    return Memories(model, seconds, context, weights)
