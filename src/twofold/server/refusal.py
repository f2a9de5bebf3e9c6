"""Requests that are not answered as asked: the status, and the error in the shape of the protocol that was spoken."""

from typing import Any

import msgspec

from twofold.errors import (
    ContextError,
    ContextInUse,
    ContextsFull,
    ContextTaken,
    LinkError,
    NoContext,
    OtherModel,
    Overloaded,
    RequestError,
    TwofoldError,
)
from twofold.units import Seconds

LOST_SECONDS = Seconds(1.0)  # after which to try again if a weight processor went away
INTERNAL = "an error inside the server; its log has more, under the id of this request"

STATUSES = {
    400: "What is asked cannot be had; the error names the parameter.",
    401: "The API key is missing or wrong.",
    403: "The quota of kept contexts has no room.",
    404: "The model is not served, or the context is not kept.",
    408: "The body was too slow.",
    409: "The context is in use, taken, damaged or of another model; the error's code says which.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    421: "The Host header names another host.",
    429: "Too much is asked for now; see Retry-After.",
    500: "An error of the server.",
    503: "Nobody answers now: loading, ending, or the weights are out of reach; see Retry-After.",
}

CONTEXT_STATUSES: dict[type[ContextError], tuple[int, str]] = {  # with the code, the first that fits
    NoContext: (404, "context_not_found"),
    ContextsFull: (403, "contexts_full"),
    ContextInUse: (409, "context_in_use"),
    ContextTaken: (409, "context_taken"),
    OtherModel: (409, "context_of_another_model"),
    ContextError: (409, "invalid_context"),
}


class Refusal(Exception):  # noqa: N818
    """An HTTP status of 400 or more. `str(refusal)` is one line that names the cause and the remedy.

    `param` names the parameter that it is about, `code` is a word for programs, `more` is put beside them.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: Seconds | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.retry_after, self.more = retry_after, more or {}

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the status."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status in (408, 413):  # the rest of the body is not wanted
            headers["Connection"] = "close"
        return headers


def refusal_of(error: TwofoldError) -> Refusal:
    """The one table from errors of Twofold to statuses of HTTP."""
    match error:
        case Overloaded():
            return Refusal(429, str(error), code="rate_limit_exceeded", retry_after=Seconds(error.retry_after_seconds))
        case ContextError():
            status, code = next(row for kind, row in CONTEXT_STATUSES.items() if isinstance(error, kind))
            return Refusal(status, str(error), param=error.param, code=code)
        case RequestError():
            return Refusal(400, str(error), param=error.param)
        case LinkError():
            return Refusal(503, str(error), code="weights_unreachable", retry_after=LOST_SECONDS)
        case _:
            return Refusal(500, str(error))


def error_body(refusal: Refusal, path: str, request_id: str) -> bytes:
    """The error as JSON, in the shape of the protocol that is spoken at `path`."""
    shape = anthropic_error if path.startswith("/v1/messages") else openai_error
    return msgspec.json.encode(shape(refusal, request_id))


def openai_error(refusal: Refusal, request_id: str) -> dict[str, Any]:
    """As OpenAI's: `{"error": {"message", "type", "param", "code"}}`; the id is in the header alone."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = "server_error" if refusal.status >= 500 else kinds.get(refusal.status, "invalid_request_error")
    error = {"message": str(refusal), "type": kind, "param": refusal.param, "code": refusal.code}
    return {"error": error | refusal.more}


_ANTHROPIC_KINDS = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
    429: "rate_limit_error", 500: "api_error", 503: "overloaded_error",
}  # fmt: skip


def anthropic_error(refusal: Refusal, request_id: str) -> dict[str, Any]:
    """As Anthropic's: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""
    kind = _ANTHROPIC_KINDS.get(refusal.status, "invalid_request_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": str(refusal)} | refusal.more,
        "request_id": request_id,
    }
