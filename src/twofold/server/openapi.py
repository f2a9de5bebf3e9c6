"""The OpenAPI document, made of the endpoints' forms: what it says of a body is what the body is read by.

Source: OpenAPI Specification 3.1.0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from twofold import __version__
from twofold.server.about import Model, ModelList
from twofold.server.body import Fixed
from twofold.server.endpoint import JSON, Endpoint
from twofold.server.refusal import STATUSES

REF = "#/components/schemas/{name}"
OPEN = {"/health": "The process is alive.", "/readyz": "Whether requests are answered now."}
Schema = dict[str, Any]


def parameters(endpoint: Endpoint[Any]) -> Mapping[str, Schema]:
    """Every parameter that an endpoint accepts, with its JSON Schema; one that is fixed is an enumeration."""
    (form,), components = msgspec.json.schema_components([endpoint.takes], ref_template=REF)
    return _form(components[_name(form)], endpoint.fixed)["properties"]  # type: ignore[no-any-return]


def document(endpoints: Sequence[Endpoint[Any]], names: Sequence[str], *, keyed: bool) -> bytes:
    """The document of a server of a model of these `names`, as JSON."""
    forms = [form for endpoint in endpoints for form in (endpoint.takes, endpoint.gives)]
    refs, components = msgspec.json.schema_components([*forms, Model, ModelList], ref_template=REF)
    for endpoint, ref in zip(endpoints, refs[::2], strict=False):
        form = _form(components[_name(ref)], endpoint.fixed)
        if "model" in form["properties"]:
            form["properties"]["model"] = {"enum": [*names], "description": "The served model's name."}
        components[_name(ref)] = form
    components["Error"] = {"type": "object", "properties": {"error": {"type": "object"}}, "required": ["error"]}
    paths: Schema = {path: {"get": _get(text, None, ())} for path, text in OPEN.items()}
    paths["/readyz"]["get"]["responses"]["503"] = _reply("It is loading or ending.", {"type": "object"})
    paths["/version"] = {"get": _get("The versions of program and wire.", {"type": "object"})}
    paths["/metrics"] = {"get": _get("Figures for Prometheus.", None)}
    paths["/v1/models"] = {"get": _get("The model that is served.", refs[-1])}
    paths["/v1/models/{name}"] = {"get": _get("The same, by one of its names.", refs[-2])}
    paths["/v1/models/{name}"]["parameters"] = [
        {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    ]
    for endpoint, takes, gives in zip(endpoints, refs[::2], refs[1::2], strict=False):
        paths[endpoint.path] = {"post": _post(endpoint, takes, gives)}
    written: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "Twofold", "version": __version__},
        "paths": paths,
        "components": {"schemas": components},
    }
    if keyed:
        written["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        written["security"] = [{"key": []}]
        for path in OPEN:
            paths[path]["get"]["security"] = []
    return msgspec.json.encode(written)


def _form(schema: Schema, fixed: Sequence[Fixed]) -> Schema:
    """The schema of a form with the parameters that are fixed."""
    more = {row.name: {"enum": [*row.values], "description": f"{row.why}."} for row in fixed if row.values}
    return {**schema, "properties": {**schema["properties"], **more}}


def _name(ref: Schema) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _reply(text: str, schema: Schema | None, kind: str = JSON) -> Schema:
    return {"description": text} | ({} if schema is None else {"content": {kind: {"schema": schema}}})


def _errors(statuses: Sequence[int]) -> Schema:
    return {str(status): _reply(STATUSES[status], {"$ref": REF.format(name="Error")}) for status in statuses}


def _get(text: str, schema: Schema | None, statuses: Sequence[int] = (401, 404, 421, 500)) -> Schema:
    return {"summary": text, "responses": {"200": _reply(text, schema), **_errors(statuses)}}


def _post(endpoint: Endpoint[Any], takes: Schema, gives: Schema) -> Schema:
    reply = _reply("The answer.", gives)
    if endpoint.streams:
        reply["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "summary": (endpoint.answer.__doc__ or "").partition("\n")[0],
        "requestBody": {"required": True, "content": {JSON: {"schema": takes}}},
        "responses": {"200": reply, **_errors(tuple(STATUSES))},
    }
