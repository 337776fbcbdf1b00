"""What no well-meaning client sends, to every route there is: a documented status, JSON that says what to do, and nothing in the log."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.localplatform.openapi import document
from molecule_runtime.localplatform.routes import ROUTES
from molecule_runtime.localplatform.web import MAX_BODY_BYTES

from .plain_http import connection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    import httpx

    from molecule_runtime.localplatform.routing import Route

    from .plain_http import Answer, Connection
    from .support import Member, World

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"

BODIES = [route for route in ROUTES if route.body is not None and not isinstance(route.body, str)]
STREAMS = {"/workspaces/{id}/events/stream"}

NO_OBJECTS = (
    b"",
    b"{",
    b'{"a": "b',
    b"[]",
    b"[{}]",
    b'"text"',
    b"7",
    b"null",
    b"true",
    b"{} {}",
    b"\xff\xfe\x00",
    b'{"a": "\xff"}',
    b"\xef\xbb\xbf{}x",
    b"\0",
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": 1e999}',
    b"{'a': 1}",
    b"a=b&c=d",
    b"[" * 10_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"a": ' + b"9" * 5_000 + b"}",
)

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    7,
    10**30,
    -(2**63) - 1,
    1.5,
    "",
    "x",
    " ",
    "\0",
    "\ud800",
    "a\r\nb",
    "../../etc/passwd",
    "ﷺ" * 5_000,
    [],
    [None],
    [[]],
    {},
    {"a": {"b": [1]}},
    {"": None},
)


@pytest.fixture(autouse=True)
def nothing_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


def schema_named(reference: str) -> dict[str, Any]:
    # Not at import: each worker collects this file, and making the description takes a second.
    named: dict[str, Any] = document()["components"]["schemas"][reference.rsplit("/", 1)[1]]
    return named


def operation_of(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = document()["paths"][route.path][route.method.lower()]
    return operation


def places_of(route: Route) -> list[str]:
    return [part.strip("{}") for part in route.path.split("/") if part.startswith("{")]


def path_of(route: Route, own: str, places: dict[str, str] | None = None) -> str:
    """Return the path with something for each placeholder: the workspace's own id, and ids of what is not there."""
    filled = {name: own if name == "id" else NOBODY for name in places_of(route)} | (places or {})
    return route.path.format(**filled)


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def problem_of(route: Route, answer: Answer | httpx.Response) -> str:
    """Say what is wrong with an answer, or nothing."""
    documented = operation_of(route)["responses"]
    what = f"{name_of(route)}: {answer.status_code} {answer.text[:200]!r}"
    if answer.status_code == 500 or "Traceback" in answer.text:
        return f"{what} is an error of ours"
    if str(answer.status_code) not in documented and "default" not in documented:
        return f"{what} is not documented"
    if answer.status_code < 400:
        return ""
    body = answer.json()
    # A workspace that is gone has an answer of its own (contract 14.1), and so has a parent that needs a confirmation (14.3).
    if "deleted" in body or body.get("status") == "confirmation_required":
        return ""
    return "" if body.get("error") and body.get("hint") else f"{what} does not say what to do"


class Sender:
    """Sends to a route as whoever may."""

    def __init__(self, world: World, plain: Connection, member: Member, secret: str) -> None:
        self.world = world
        self.plain = plain
        self.member = member
        self.secret = secret

    def headers_for(self, route: Route) -> dict[str, str]:
        if route.access == "inbound":
            return {"Authorization": f"Bearer {self.secret}"}
        if route.access in {"admin", "member"}:
            return self.world.admin
        return {**self.member.auth, "X-Workspace-ID": self.member.id}

    async def send(
        self,
        route: Route,
        *,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
        places: dict[str, str] | None = None,
    ) -> Answer:
        return await self.plain.request(
            route.method,
            path_of(route, self.member.id, places),
            content=content,
            headers=self.headers_for(route) if headers is None else headers,
            params=params,
        )


@pytest.fixture
async def sender(world: World) -> AsyncGenerator[Sender]:
    _, member, _ = await world.family()
    registered = await world.register(member)
    abilities = {"broadcast_enabled": True}
    await world.http.patch(f"/workspaces/{member.id}/abilities", json=abilities, headers=world.admin)
    async with connection(world.platform.url) as plain:
        yield Sender(world, plain, member, registered["platform_inbound_secret"])


def sample_of(schema: dict[str, Any]) -> Any:
    """Return something that a schema admits, as little as possible."""
    if "$ref" in schema:
        return sample_of(schema_named(schema["$ref"]))
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return sample_of(next(choice for choice in schema[key] if choice.get("type") != "null"))
    if schema.get("type") == "object":
        return {name: sample_of(schema["properties"][name]) for name in schema.get("required", ())}
    simplest: dict[str, Any] = {"string": "x", "integer": 1, "number": 1, "boolean": True, "array": []}
    return simplest.get(schema.get("type", ""), {})


def body_schema_of(route: Route) -> dict[str, Any]:
    schema = operation_of(route)["requestBody"]["content"]["application/json"]["schema"]
    return schema_named(schema["$ref"]) if "$ref" in schema else schema


def variants_of(route: Route) -> Iterator[dict[str, Any]]:
    """Yield bodies that are right but for one key, and one with keys that nobody knows."""
    schema = body_schema_of(route)
    right = sample_of({"type": "object", **schema})
    for name in schema.get("properties", {}):
        for value in ODD_VALUES:
            yield {**right, name: value}
        yield {key: value for key, value in right.items() if key != name}
    yield {**right, "__proto__": {"admin": True}, "": 1, "id\0": "x"}


async def test_a_body_that_is_no_json_object_is_a_400(sender: Sender) -> None:
    wrong: list[str] = []
    for route in BODIES:
        for content in NO_OBJECTS:
            answer = await sender.send(route, content=content)
            # Where the thing itself is not there, that may be said first.
            if answer.status_code != 400 and not (answer.status_code == 404 and route.path.count("{") > 1):
                wrong.append(f"{name_of(route)} {content[:20]!r}: {answer.status_code} {answer.text[:100]}")
            elif problem := problem_of(route, answer):
                wrong.append(problem)
    assert not wrong, "\n".join(wrong)


async def test_values_that_do_not_fit_are_refused_or_taken_as_documented(sender: Sender) -> None:
    wrong: list[str] = []
    for route in BODIES:
        for body in variants_of(route):
            answer = await sender.send(route, content=json.dumps(body).encode())
            if problem := problem_of(route, answer):
                wrong.append(f"{json.dumps(body)[:200]}: {problem}")
    assert not wrong, "\n".join(wrong)
    assert (await sender.world.http.get("/health")).status_code == 200


ODD_NAMES = (
    "a" * 129,
    "a" * 10_000,
    "UPPER",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "a%00b",
    "%ff",
    "a%0d%0ab",
    "%20",
    ";",
    "ä",
    "*",
)


async def test_names_in_a_path_that_cannot_be_are_refused(sender: Sender) -> None:
    wrong: list[str] = []
    for route in ROUTES:
        for place in places_of(route):
            for name in ODD_NAMES:
                places = {place: name}
                answer = await sender.send(route, content=b"{}", places=places)
                # A key is any text, and one that is not there is deleted already (contract 8.2).
                absent = (route.method, place, answer.status_code) == ("DELETE", "key", 200)
                if not 400 <= answer.status_code < 500 and not absent:
                    wrong.append(f"{name_of(route)} {place}={name[:20]}: {answer.status_code} {answer.text[:100]}")
                elif problem := problem_of(route, answer):
                    wrong.append(problem)
    assert not wrong, "\n".join(wrong)


async def test_nobody_is_let_in_without_a_bearer(sender: Sender) -> None:
    wrong: list[str] = []
    for route in ROUTES:
        if route.access == "anyone":
            continue
        for headers in (
            {},
            {"X-Workspace-ID": sender.member.id},
            {"Authorization": "Bearer nonsense"},
            {"Authorization": "Bearer"},
        ):
            answer = await sender.send(route, content=json.dumps(sample_body(route, sender)).encode(), headers=headers)
            refused = {401, 403} if route.access == "inbound" else {401}
            # These need to know who is meant, before it matters whether it is so.
            if route.path in {"/registry/discover/{id}"} and "X-Workspace-ID" not in headers:
                refused = {400, 401}
            if answer.status_code not in refused:
                wrong.append(f"{name_of(route)} {headers}: {answer.status_code} {answer.text[:100]}")
            elif problem := problem_of(route, answer):
                wrong.append(problem)
    assert not wrong, "\n".join(wrong)


async def test_the_bearer_of_another_workspace_opens_nothing(sender: Sender) -> None:
    stranger = await sender.world.create("stranger")
    wrong: list[str] = []
    for route in ROUTES:
        if route.access == "anyone":
            continue
        content = json.dumps(sample_body(route, sender)).encode()
        for claim in ({}, {"X-Workspace-ID": sender.member.id}):
            answer = await sender.send(route, content=content, headers={**stranger.auth, **claim})
            refused = {401, 403} if route.access == "inbound" else {401}
            if route.access == "member" or (route.path.startswith("/registry/discover") and not claim):
                # A token of somebody, who is asked for, or is not there.
                refused = {400, 401, 403, 404}
            if answer.status_code not in refused:
                wrong.append(f"{name_of(route)} {claim}: {answer.status_code} {answer.text[:100]}")
            elif problem := problem_of(route, answer):
                wrong.append(problem)
    assert not wrong, "\n".join(wrong)


async def test_a_workspaces_own_bearer_does_not_make_it_an_admin(sender: Sender) -> None:
    answers = {
        name_of(route): await sender.send(route, content=b"{}", headers=sender.member.auth)
        for route in ROUTES
        if route.access == "admin"
    }
    assert len(answers) > 20
    # An approval is decided under the workspace's own path: there it is known, and not allowed.
    wrong = {name: answer.text for name, answer in answers.items() if answer.status_code not in {401, 403}}
    assert not wrong, wrong
    assert all(answer.json()["hint"] for answer in answers.values())


def sample_body(route: Route, sender: Sender) -> Any:
    """Return a body with which the workspace means itself."""
    if route not in BODIES:
        return {}
    body = sample_of({"type": "object", **body_schema_of(route)})
    own = {"id": sender.member.id} if route.path == "/registry/register" else {"workspace_id": sender.member.id}
    return {**body, **own, "agent_card": {"name": "x"}} if route.path.startswith("/registry/") else body


async def test_a_body_that_is_too_large_is_a_413_on_every_route(sender: Sender) -> None:
    content = b'{"a": "' + b"x" * MAX_BODY_BYTES + b'"}'
    wrong: list[str] = []
    for route in BODIES:
        url = path_of(route, sender.member.id)
        # The answer may come before all of it was sent.
        answer = await sender.world.http.request(route.method, url, content=content, headers=sender.headers_for(route))
        body = answer.json()
        if answer.status_code != 413 or not body["error"] or not body["hint"]:
            wrong.append(f"{name_of(route)}: {answer.status_code} {answer.text[:100]}")
        elif not 0 < body["max_bytes"] <= MAX_BODY_BYTES:
            wrong.append(f"{name_of(route)}: {body}")
    assert not wrong, "\n".join(wrong)


ODD_TEXTS = (
    "",
    " ",
    "0",
    "-1",
    "1e3",
    "9" * 400,
    "x",
    "\0",
    "ä",
    "' OR 1=1 --",
    "..",
    "null",
    "\ud7ff" * 10,
    "١٢",
    "2026-13-45T99:99:99Z",
    "x" * 5_000,
)


async def test_query_parameters_that_make_no_sense_are_refused_or_left_out(sender: Sender) -> None:
    wrong: list[str] = []
    for route in ROUTES:
        if route.method != "GET" or route.path in STREAMS:
            continue
        for parameter in route.parameters:
            if parameter.place != "query":
                continue
            for text in ODD_TEXTS:
                answer = await sender.send(route, params={parameter.name: text})
                if problem := problem_of(route, answer):
                    wrong.append(f"{parameter.name}={text[:30]!r}: {problem}")
    assert not wrong, "\n".join(wrong)


async def test_methods_that_a_route_does_not_have_are_a_405_that_names_those_it_has(sender: Sender) -> None:
    wrong: list[str] = []
    for path in sorted({route.path for route in ROUTES}):
        methods = {route.method for route in ROUTES if route.path == path}
        (route, *_) = [route for route in ROUTES if route.path == path]
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} - methods:
            url = path_of(route, sender.member.id)
            answer = await sender.plain.request(method, url, headers=sender.world.admin)
            named = set(answer.headers.get("allow", "").split(", ")) - {"HEAD"}
            if (answer.status_code, named) != (405, methods) or not answer.json()["hint"]:
                wrong.append(f"{method} {path}: {answer.status_code} {answer.headers.get('allow')} {answer.text[:100]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/x",
        "/workspaces/",
        "/workspaces//activity",
        "/openapi",
        "/admin",
        "/registry",
        "/.env",
        "/" + "a/" * 2_000,
        "/?a=b",
    ],
)
async def test_an_unknown_route_is_a_404_that_says_where_to_look(sender: Sender, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = await sender.world.http.request(method, path, headers=sender.world.admin)
        body = answer.json()
        assert (answer.status_code, body["error"]) == (404, "not found")
        assert "/openapi.json" in body["hint"]
        assert len(answer.content) < 1_000
