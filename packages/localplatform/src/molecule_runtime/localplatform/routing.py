"""What a route is: how it is matched, who may call it, what it takes and answers, and where the contract describes it.

Each module of handlers ends with its own `ROUTES`; `routes` joins them, `app` serves them, `openapi` and the README describe them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pydantic import BaseModel
    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform

    Handler: TypeAlias = Callable[[Platform, Request], Awaitable[Response]]

Access = Literal["anyone", "registered", "workspace", "itself", "member", "admin", "inbound"]
"""Who may call: `registered` is lazy bootstrap (1.5), `workspace` the token of exactly `:id`, `itself` the same with the second check,
`member` any live workspace token that the handler then judges, `inbound` the target's inbound secret; the admin token and org tokens pass
everywhere but at `itself` and `inbound`."""

WHO: Mapping[Access, str] = {
    "anyone": "anyone",
    "registered": "the workspace; anyone while it has no token",
    "workspace": "the workspace, admin",
    "itself": "the workspace; admin while it has no token",
    "member": "a workspace that may, admin",
    "admin": "admin",
    "inbound": "whoever has the target's inbound secret",
}
"""For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One query parameter or header.

    Attributes:
        schema: JSON Schema of the value.
    """

    name: str
    meaning: str
    place: Literal["query", "header"] = "query"
    required: bool = False
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route.

    Attributes:
        path: with `{name}` for what varies.
        section: of the contract, `platform-api.md`.
        access: who may call.
        summary: one line for people.
        body: shape of the JSON body; a string is another media type.
        answers: shape by success status; None for a body that is not JSON, a string for another media type.
        refusals: statuses of its own besides those that every route may answer.
        passes_through: the status and body may be those of an agent.
        test: the conformance test that pins it, `file.py::name` below `tests/conformance/platform`.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler = field(repr=False)
    section: str
    access: Access
    summary: str
    test: str
    body: type[BaseModel] | str | None = None
    answers: Mapping[int, Any] = field(default_factory=lambda: {200: dict[str, Any]})
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[int, ...] = ()
    passes_through: bool = False
