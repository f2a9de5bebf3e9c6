"""What a server tells of itself: `/health`, `/readyz`, `/version`, `/v1/models`."""

from typing import Literal

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from twofold import __version__
from twofold.server.endpoint import answered
from twofold.server.offer import Offer
from twofold.server.refusal import Refusal
from twofold.wire.message import PROTOCOL

router = APIRouter()


class Model(msgspec.Struct, frozen=True):
    """A model that is served; `root` is the name that it gives itself."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["twofold"]
    root: str | None
    max_model_len: int | None


class ModelList(msgspec.Struct, frozen=True):
    """A reply to `/v1/models`."""

    object: Literal["list"]
    data: list[Model]


@router.get("/health")
async def health() -> Response:
    """The process is alive."""
    return Response()


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Whether requests are answered now; 503 with the reason and the progress if not."""
    readiness = _offer(request).readiness
    status = 200 if readiness.is_ready else 503
    return Response(msgspec.json.encode(readiness.state()), status, media_type="application/json")


@router.get("/version")
async def version() -> Response:
    """The versions of the program and of its wire."""
    return answered({"version": __version__, "protocol": PROTOCOL})


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """The model that is served, under each of its names."""
    offer = _offer(request)
    return answered(ModelList("list", [_model(offer, name) for name in offer.names]))


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> Response:
    """The model of this name; 404 for another."""
    offer = _offer(request)
    offer.check(name)
    return answered(_model(offer, name))


def _offer(request: Request) -> Offer:
    offer: Offer = request.app.state.offer
    return offer


def _model(offer: Offer, name: str) -> Model:
    try:
        serving = offer.readiness.serving
    except Refusal:  # it is known what will be served before it can be
        return Model(name, "model", offer.created, "twofold", None, offer.max_model_len)
    return Model(name, "model", offer.created, "twofold", serving.manifest.name, offer.most(serving))
