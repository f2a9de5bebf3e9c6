"""The OpenAPI document, made of the endpoints' forms: what it says of a body is what the body is read by.

Source: OpenAPI Specification 3.1.0.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from twofold import __version__
from twofold.engine.toolbox import known_form
from twofold.model.tokenizer import Tokenizer
from twofold.server.about import Model, ModelList
from twofold.server.body import Fixed, Implied
from twofold.server.endpoint import JSON, Endpoint, Route
from twofold.server.memories import PATH as MEMORIES
from twofold.server.memories import Memories
from twofold.server.parameters import TOKEN_ID, WITHOUT_TOOLS
from twofold.server.refusal import STATUSES
from twofold.server.shelves import ContextName

Schema = dict[str, Any]
REF = "#/components/schemas/{name}"
PLACES: Mapping[str, Any] = {  # what stands for {name} below each
    "/v1/models": {"type": "string", "minLength": 1},
    "/v1/contexts": msgspec.json.schema(ContextName),
}
BINARY = {"type": "string", "format": "binary"}
OPEN = {"/health": "The process is alive.", "/readyz": "Whether requests are answered now."}


def parameters(endpoint: Endpoint[Any]) -> Mapping[str, Schema]:
    """Every parameter that an endpoint accepts, with its JSON Schema; one that is fixed is an enumeration."""
    (form,), components = msgspec.json.schema_components([endpoint.takes], ref_template=REF)
    return _form(components[_name(form)], endpoint.fixed)["properties"]  # type: ignore[no-any-return]


def document(
    endpoints: Sequence[Endpoint[Any]],
    routes: Sequence[Route],
    names: Sequence[str],
    tokenizer: Tokenizer | None,
    *,
    keyed: bool,
) -> bytes:
    """The document, as JSON, of a server of a model of these `names` and of this tokenizer, if that is known yet."""
    forms = [form for endpoint in endpoints for form in (endpoint.takes, endpoint.gives)]
    sent = [route.gives for route in routes if route.gives is not None]
    refs, components = msgspec.json.schema_components([*forms, *sent, Memories, Model, ModelList], ref_template=REF)
    for endpoint, ref in zip(endpoints, refs[::2], strict=False):
        form = components[_name(ref)]
        _imply(form, endpoint.implied, components)
        if "model" in form["properties"]:
            form["properties"]["model"] = {"enum": [*names], "description": "The served model's name."}
        components[_name(ref)] = {**_form(form, endpoint.fixed), **endpoint.rules}
    components["Error"] = {"type": "object", "properties": {"error": {"type": "object"}}, "required": ["error"]}
    paths: Schema = {path: {"get": _get(text, None, ())} for path, text in OPEN.items()}
    paths["/readyz"]["get"]["responses"]["503"] = _reply("It is loading or ending.", {"type": "object"})
    paths["/version"] = {"get": _get("The versions of program and wire.", {"type": "object"})}
    paths["/metrics"] = {"get": _get("Figures for Prometheus.", None)}
    paths[MEMORIES] = {"get": _get("The two memories as they are now.", refs[-3], (401, 404, 421, 500, 503))}
    paths["/v1/models"] = {"get": _get("The model that is served.", refs[-1])}
    paths["/v1/models/{name}"] = {"get": _get("The same, by one of its names.", refs[-2])}
    for endpoint, takes, gives in zip(endpoints, refs[::2], refs[1::2], strict=False):
        paths[endpoint.path] = {"post": _post(endpoint, takes, gives)}
    for route in routes:
        sends = BINARY if route.gives is None else refs[len(forms) + sent.index(route.gives)]
        paths.setdefault(route.path, {})[route.method.lower()] = _route(route, sends)
    for path, schema in PLACES.items():
        place = {"name": "name", "in": "path", "required": True, "schema": schema}
        for under in (under for under in paths if under.startswith(f"{path}/{{name}}")):
            paths[under]["parameters"] = [place]
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
    return msgspec.json.encode(written if tokenizer is None else Able(tokenizer).told(written))


class Able:
    """What one model can do, which bounds what requests may ask of it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        below = tokenizer.vocab_size
        self._token: dict[str, Schema] = {"integer": {"exclusiveMaximum": below}, "string": {"pattern": _below(below)}}
        self._tools = known_form(tokenizer) is not None

    def told(self, schema: Any) -> Any:
        """The same schema for this model: token ids are below its vocabulary, and it may know no tools."""
        if isinstance(schema, list):
            return [self.told(one) for one in schema]
        if not isinstance(schema, dict):
            return schema
        if WITHOUT_TOOLS in schema and not self._tools:
            return schema[WITHOUT_TOOLS]
        bound = self._token[schema.get("type", "string")] if schema.get("format") == TOKEN_ID else {}
        return {name: self.told(value) for name, value in schema.items() if name != WITHOUT_TOOLS} | bound


def _below(limit: int) -> str:
    """The pattern of the whole numbers below `limit`."""
    most = str(limit - 1)
    shorter = ["0"] if len(most) == 1 else ["0", f"[1-9][0-9]{{0,{len(most) - 2}}}"]
    lower = [
        f"{most[:place]}[{int(place == 0)}-{int(digit) - 1}][0-9]{{{len(most) - place - 1}}}"
        for place, digit in enumerate(most)
        if int(digit) > int(place == 0)
    ]
    return f"^({'|'.join((*shorter, *lower, most))})$"


def _form(schema: Schema, fixed: Sequence[Fixed]) -> Schema:
    """The schema of a form as it is read: with the parameters that are fixed, and null for what may be left out."""
    rows = {row.name: {"enum": [*row.values], "description": f"{row.why}."} for row in fixed}
    optional = {**schema["properties"], **rows}.items()
    properties = {name: one if name in schema["required"] else _nullable(one) for name, one in optional}
    return {**schema, "properties": properties}


def _imply(form: Schema, implied: Implied, components: Schema) -> None:
    """What an object in a list says if it does not say it is not required of that object."""
    for name, said in implied.items():
        for field, value in said.items():
            for one in (components[ref] for ref in _refs(form["properties"][name])):
                if one["properties"].get(field) == {"enum": [value]}:
                    one["required"] = [other for other in one["required"] if other != field]


def _refs(schema: Any) -> Iterator[str]:
    """The names of the components in a schema, those inside of components left out."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield _name(schema)
        schema = list(schema.values())
    if isinstance(schema, list):
        for one in schema:
            yield from _refs(one)


def _nullable(schema: Schema) -> Schema:
    if "enum" in schema:
        return {**schema, "enum": [*(value for value in schema["enum"] if value is not None), None]}
    if {"type": "null"} in schema.get("anyOf", ()):
        return schema
    outside: Schema = {name: schema[name] for name in ("description", "default") if name in schema}
    inside = {name: value for name, value in schema.items() if name not in outside}
    return {"anyOf": [inside, {"type": "null"}], **outside}


def _name(ref: Schema) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _reply(text: str, schema: Schema | None, kind: str = JSON) -> Schema:
    return {"description": text} | ({} if schema is None else {"content": {kind: {"schema": schema}}})


def _errors(statuses: Sequence[int]) -> Schema:
    return {str(status): _reply(STATUSES[status], {"$ref": REF.format(name="Error")}) for status in statuses}


def _get(text: str, schema: Schema | None, statuses: Sequence[int] = (401, 404, 421, 500)) -> Schema:
    return {"summary": text, "responses": {"200": _reply(text, schema), **_errors(statuses)}}


def _route(route: Route, sends: Schema) -> Schema:
    reply = _reply("As asked.", sends, route.sends)
    written = {
        "summary": (route.answer.__doc__ or "").partition("\n")[0],
        "responses": {"200": reply, **_errors(tuple(STATUSES))},
    }
    if route.takes is None:
        return written
    return {**written, "requestBody": {"required": True, "content": {route.takes: {"schema": BINARY}}}}


def _post(endpoint: Endpoint[Any], takes: Schema, gives: Schema) -> Schema:
    reply = _reply("The answer.", gives)
    if endpoint.streams:
        fields = {"event": {"type": "string"}, "data": {"type": "string"}}
        reply["content"]["text/event-stream"] = {"schema": {"type": "object", "properties": fields}}
    return {
        "summary": (endpoint.answer.__doc__ or "").partition("\n")[0],
        "requestBody": {"required": True, "content": {JSON: {"schema": takes}}},
        "responses": {"200": reply, **_errors(tuple(STATUSES))},
    }
