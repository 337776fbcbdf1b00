"""Values that an agent keeps by key (contract 8.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform.wire import StatusResponse
from molecule_runtime.core.platform.wire import memory as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_own
from molecule_runtime.localplatform.routing import Route
from molecule_runtime.localplatform.store import key_values
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.key_values import ValueRow

MAX_VALUE_BYTES = 256 * 1024
"""Of one value, as JSON."""


async def list_own(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/memory`."""
    own = await require_own(platform, request)
    rows = await platform.store.read(key_values.listed, own.id, platform.now())
    return web.answer([_body(row) for row in rows])


async def get_one(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/memory/:key`."""
    own = await require_own(platform, request)
    row = await platform.store.read(key_values.get, own.id, request.path_params["key"], platform.now())
    if row is None:
        raise Refusal(404, "key not found")
    return web.answer(_body(row))


async def put(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/memory`: the last write wins, unless it names the version that it expects."""
    own = await require_own(platform, request)
    data = await web.read_object(request)
    if not isinstance(data.get("key"), str) or not data["key"]:
        raise Refusal(400, "key is required")
    wanted = web.validate(wire.SetValueRequest, data)
    hint = f"at most {MAX_VALUE_BYTES} bytes of JSON under one key"
    value_json = kept_json("value", wanted.value, most=MAX_VALUE_BYTES, hint=hint)
    now = platform.now()
    expires_at = None if wanted.ttl_seconds is None else now + wanted.ttl_seconds * timestamps.SECOND

    def store(connection: sqlite3.Connection) -> int:
        row = key_values.get(connection, own.id, wanted.key, now)
        current = None if row is None else row.version
        expected = wanted.if_match_version
        if expected is not None and expected != (current or 0):
            hint = "read the entry again and repeat the change on what it holds now"
            raise Refusal(409, "version conflict", expected_version=expected, current_version=current, hint=hint)
        if not key_values.has_room(connection, own.id, wanted.key, len(value_json), now):
            limits = f"at most {key_values.MAX_KEYS} keys and {key_values.MAX_BYTES} bytes of values"
            raise Refusal(409, "too many values", hint=f"{limits}; delete some first")
        version = (current or 0) + 1
        key_values.put(
            connection, own.id, wanted.key, value_json.decode(), version=version, expires_at=expires_at, now=now
        )
        return version

    version = await platform.store.write(store)
    return web.answer({"status": "ok", "key": wanted.key, "version": version})


async def delete(platform: Platform, request: Request) -> Response:
    """`DELETE /workspaces/:id/memory/:key`: also of a key that is not there."""
    own = await require_own(platform, request)
    await platform.store.write(key_values.delete, own.id, request.path_params["key"])
    return web.answer({"status": "deleted"})


def kept_json(name: str, value: object, *, most: int, hint: str) -> bytes:
    """Return a value as JSON that may be kept.

    Raises:
        Refusal: 413 when it has more than so many bytes.
    """
    text = web.dump(value)
    if len(text) > most:
        raise Refusal(413, f"{name} too large", max_bytes=most, hint=hint)
    return text


def _body(row: ValueRow) -> dict[str, Any]:
    body: dict[str, Any] = {
        "key": row.key,
        "value": web.loads(row.value_json),
        "version": row.version,
        "updated_at": timestamps.render(row.updated_at),
    }
    if row.expires_at is not None:
        body["expires_at"] = timestamps.render(row.expires_at)
    return body


_TEST = "test_keyvalue.py::test_a_value_is_kept_read_and_deleted"

ROUTES = (
    Route(
        method="GET", path="/workspaces/{id}/memory", handler=list_own, section="8.2", access="workspace",
        summary="Its values by key.", answers={200: list[wire.StoredValue]}, test=_TEST,
    ),
    Route(
        method="POST", path="/workspaces/{id}/memory", handler=put, section="8.2", access="workspace", summary="Keep a value.",
        body=wire.SetValueRequest, answers={200: wire.SavedValue}, refusals=(409,),
        test="test_keyvalue.py::test_a_write_that_expects_another_version_is_a_conflict",
    ),
    Route(
        method="GET", path="/workspaces/{id}/memory/{key}", handler=get_one, section="8.2", access="workspace",
        summary="One value.", answers={200: wire.StoredValue}, test=_TEST,
    ),
    Route(
        method="DELETE", path="/workspaces/{id}/memory/{key}", handler=delete, section="8.2", access="workspace",
        summary="Delete a value.", answers={200: StatusResponse}, test=_TEST,
    ),
)  # fmt: skip
