"""The application: every path of every protocol, with the way in before them."""

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from twofold import __version__
from twofold.errors import TwofoldError
from twofold.server import (
    about,
    anthropic_messages,
    contexts,
    front_page,
    memories,
    metrics,
    openai_chat,
    openai_completions,
    openai_responses,
    tokens,
)
from twofold.server.api_keys import Keys
from twofold.server.endpoint import Endpoint
from twofold.server.front import Front, Log, refused
from twofold.server.offer import Offer
from twofold.server.openapi import document
from twofold.server.refusal import INTERNAL, Refusal, refusal_of

ENDPOINTS: tuple[Endpoint, ...] = (  # type: ignore[type-arg]
    openai_chat.ENDPOINT,
    openai_completions.ENDPOINT,
    openai_responses.ENDPOINT,
    anthropic_messages.ASK,
    anthropic_messages.COUNT,
    tokens.TOKENIZE,
    tokens.DETOKENIZE,
    *contexts.ENDPOINTS,
)


def application(offer: Offer, keys: Keys, log: Log) -> Front:
    """What uvicorn runs. `log` is told of every request when it is over."""
    app = FastAPI(title="Twofold", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.offer = offer
    app.include_router(about.router)
    app.include_router(metrics.router)
    app.include_router(memories.router)
    app.include_router(front_page.router)
    for endpoint in ENDPOINTS:
        app.add_api_route(endpoint.path, endpoint.handle, methods=["POST"], name=endpoint.path)
    for route in contexts.ROUTES:
        app.add_api_route(route.path, route.handle, methods=[route.method], name=f"{route.method} {route.path}")
    front = Front(app, keys=keys, readiness=offer.readiness, log=log)
    app.state.front = front

    @app.get("/openapi.json")
    async def openapi() -> Response:
        readiness = offer.readiness
        tokenizer = readiness.serving.tokenizer if readiness.is_ready else None
        written = document(ENDPOINTS, contexts.ROUTES, offer.names, tokenizer, keyed=bool(keys))
        return Response(written, media_type="application/json")

    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(TwofoldError, _translated)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    return front


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return refused(refusal, request.scope)


async def _translated(request: Request, error: Exception) -> Response:
    """What went wrong below, once more by the table."""
    assert isinstance(error, TwofoldError)
    return refused(refusal_of(error), request.scope)


async def _http(request: Request, error: Exception) -> Response:
    """What the framework refuses: a path or a method that is not there."""
    assert isinstance(error, HTTPException)
    text = {
        404: f"there is nothing at {request.scope['path'][:200]!r}; see /openapi.json",
        405: "the method is not that of this path",
    }
    response = refused(Refusal(error.status_code, text.get(error.status_code, str(error.detail))), request.scope)
    if error.status_code == 405:
        response.headers["Allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """All methods of the path, of which each may have a route of its own."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = [route.methods or () for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for methods in found for method in methods})


async def _failed(request: Request, _: Exception) -> Response:
    """A bug of ours; the error itself goes to the log of whoever runs the application."""
    return refused(Refusal(500, INTERNAL), request.scope)
