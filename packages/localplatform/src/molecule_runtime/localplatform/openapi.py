"""The description of the HTTP face as OpenAPI 3.1, generated from the table of routes, and the open routes that describe the server."""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from molecule_runtime.core.identity import MAX_ID_LENGTH
from molecule_runtime.core.platform import wire
from molecule_runtime.core.version import version_of
from molecule_runtime.localplatform import shelf, web
from molecule_runtime.localplatform.routing import WHO, Parameter, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import BaseModel
    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform

COMMON_REFUSALS = (400, 401, 403, 404, 405, 408, 410, 413, 429, 503)
"""What any route may answer instead: bad input, wrong bearer, foreign page, unknown or removed workspace, too slow, too large, too many
requests, storage unavailable."""

_PLACEHOLDER = re.compile(r"{(\w+)}")
_COLON = r":\1"
_REFS = "#/components/schemas/{model}"
_IDENTIFIER = {"type": "string", "minLength": 1}
_PLACEHOLDERS = {
    "id": {"type": "string", "pattern": f"^[a-z0-9][a-z0-9-]{{0,{MAX_ID_LENGTH - 1}}}$"},
    "file_id": {"type": "string", "format": "uuid", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
    "name": {"type": "string", "pattern": f"^{shelf.NAME.pattern}$"},
}
"""What stands for a placeholder of a path, where the route says 400 to anything else."""


async def health(platform: Platform, request: Request) -> Response:
    """`GET /health`."""
    del platform, request
    return web.answer({"status": "ok"})


async def describe(platform: Platform, request: Request) -> Response:
    """`GET /openapi.json`."""
    del platform, request
    return web.answer(document())


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document of this server; treat it as read-only."""
    # Late: the table of routes imports every handler, and this module is one of them.
    from molecule_runtime.localplatform.routes import ROUTES as ALL

    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for route in ALL:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "molecule-local",
            "version": version_of("molecule-runtime-localplatform"),
            "description": "The platform's HTTP contract, June 2026, on one machine. Sections are those of `platform-api.md`.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A workspace, org or admin token."}
            },
        },
    }


def readme_table(routes: Iterable[Route]) -> str:
    """Return the table of routes for the README."""
    lines = ["| route | who | section | conformance test |", "|---|---|---|---|"]
    lines += [
        f"| `{route.method} {_PLACEHOLDER.sub(_COLON, route.path)}` | {WHO[route.access]} | {route.section} | `{route.test}` |"
        for route in routes
    ]
    return "\n".join(lines)


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', route.path.lower()).strip('_')}",
        "summary": route.summary,
        "description": f"Contract {route.section}. Who: {WHO[route.access]}.",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _PLACEHOLDERS.get(name, _IDENTIFIER)}
            for name in _PLACEHOLDER.findall(route.path)
        ]
        + [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.required,
                "description": parameter.meaning,
                "schema": _schema_of_parameter(parameter),
            }
            for parameter in route.parameters
        ],
        "responses": _responses(route, schemas),
    }
    if route.access == "anyone":
        operation["security"] = []
    elif route.access == "registered":
        operation["security"] = [{}, {"bearer": []}]
    else:
        operation["security"] = [{"bearer": []}]
    if isinstance(route.body, str):
        operation["requestBody"] = {"required": True, "content": {route.body: {"schema": _UPLOAD}}}
    elif route.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(_body_of(route.body, schemas))}
    return operation


_UPLOAD = {
    "type": "object",
    "properties": {
        "files": {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}}
    },
    "required": ["files"],
}


def _responses(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, shape in route.answers.items():
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if isinstance(shape, str):
            response["content"] = {shape: {}}
        elif shape is not None:
            response["content"] = _json(_schema_of(shape, schemas))
        responses[str(status)] = response
    error = _schema_of(wire.ErrorBody, schemas)
    for status in sorted({*COMMON_REFUSALS, *route.refusals} - set(route.answers)):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": _json(error)}
    # A foreign `Origin` is refused without a body (contract 1.1).
    responses["403"].pop("content")
    if route.passes_through:
        responses["default"] = {"description": "what the agent answered", "content": _json({})}
    return responses


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": dict(schema)}}


def _schema_of_parameter(parameter: Parameter) -> dict[str, Any]:
    if parameter.required or parameter.place == "header" or parameter.schema == {"type": "string"}:
        return dict(parameter.schema)
    # `?name=` is the same as nothing.
    return {"anyOf": [dict(parameter.schema), {"const": ""}]}


def _body_of(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    reference = _schema_of(model, schemas)
    schema = schemas.get(model.__name__)
    if schema is None:  # it takes any object
        return reference
    required = schema.get("required", ())
    # As everywhere in the contract, null is the same as absent (`web.validate`).
    schema["properties"] = {
        name: shape if name in required or _admits_null(shape) else {"anyOf": [shape, {"type": "null"}]}
        for name, shape in schema["properties"].items()
    }
    return reference


def _admits_null(schema: Mapping[str, Any]) -> bool:
    # A schema without a type, such as that of `Any`, admits everything.
    kinds = {"type", "$ref", "enum", "const", "anyOf"}
    return kinds.isdisjoint(schema) or {"type": "null"} in schema.get("anyOf", ())


def _schema_of(shape: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = TypeAdapter(shape).json_schema(mode="validation", ref_template=_REFS)
    schemas.update(schema.pop("$defs", {}))
    title = schema.get("title")
    if schema.get("type") == "object" and isinstance(title, str) and "properties" in schema:
        schemas[title] = schema
        return {"$ref": _REFS.format(model=title)}
    return schema


ROUTES = (
    Route(
        method="GET", path="/health", handler=health, section="3.1", access="anyone", summary="Is the process alive?",
        answers={200: wire.StatusResponse}, test="test_health.py::test_health_answers_without_credentials",
    ),
    Route(
        method="GET", path="/healthz", handler=health, section="3.1", access="anyone", summary="The same.",
        answers={200: wire.StatusResponse}, test="test_health.py::test_health_answers_without_credentials",
    ),
    Route(
        method="GET", path="/openapi.json", handler=describe, section="ours", access="anyone", summary="This document.",
        test="test_health.py::test_the_server_describes_itself",
    ),
)  # fmt: skip
