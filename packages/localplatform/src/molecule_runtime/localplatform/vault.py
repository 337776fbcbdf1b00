"""Secrets of workspaces and of the whole tenant, and the model, which is one of them (contract 11.1 to 11.4).

Values leave by one route only, to the workspace that they are for; lists, refusals, logs and events name keys at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform.wire import StatusResponse
from molecule_runtime.core.platform.wire import boot as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_admin, require_itself, require_own
from molecule_runtime.localplatform.routing import Route
from molecule_runtime.localplatform.store import secrets
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.secrets import SecretRow

MAX_BODY = 512 * 1024
"""A value of 64 KiB, each character of it escaped."""

_KEY_RULE = (
    "a key has 1 to 128 letters, digits and underscores and does not begin with a digit; a value has 1 byte to 64 KiB"
)


def store_secrets(
    connection: sqlite3.Connection, workspace_id: str | None, values: Mapping[str, str], now: int
) -> None:
    """Store checked secrets of a workspace, or (None) of all, within a transaction that ends with a refusal.

    Raises:
        Refusal: 409 when the scope would have too many.
    """
    secrets.put(connection, workspace_id, values, now)
    if secrets.count(connection, workspace_id) > secrets.MAX_KEYS:
        raise Refusal(409, "too many secrets", hint=f"at most {secrets.MAX_KEYS}; delete one first")


async def get_values(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/secrets/values`: for the workspace itself, not for the admin."""
    own = await require_itself(platform, request)
    return web.answer(await platform.store.read(secrets.values_for, own.id), headers={"Cache-Control": "no-store"})


async def list_own(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/secrets`."""
    own = await require_own(platform, request)
    return web.answer([_body(row) for row in await platform.store.read(secrets.seen_by, own.id)])


async def put_own(platform: Platform, request: Request) -> Response:
    """`POST` and `PUT /workspaces/:id/secrets`."""
    own = await require_own(platform, request)
    wanted = await _read(request)
    await platform.store.write(store_secrets, own.id, {wanted.key: wanted.value}, platform.now())
    await _restart(platform, own.id)
    return web.answer({"status": "saved", "key": wanted.key})


async def delete_own(platform: Platform, request: Request) -> Response:
    """`DELETE /workspaces/:id/secrets/:key`."""
    own = await require_own(platform, request)
    answer = await _delete(platform, request, own.id)
    await _restart(platform, own.id)
    return answer


async def list_global(platform: Platform, request: Request) -> Response:
    """`GET /settings/secrets` (admin)."""
    require_admin(platform, request)
    return web.answer([_body(row) for row in await platform.store.read(secrets.of_all)])


async def put_global(platform: Platform, request: Request) -> Response:
    """`POST` and `PUT /settings/secrets` (admin): workspaces get it with their next start."""
    require_admin(platform, request)
    wanted = await _read(request)
    await platform.store.write(store_secrets, None, {wanted.key: wanted.value}, platform.now())
    return web.answer({"status": "saved", "key": wanted.key})


async def delete_global(platform: Platform, request: Request) -> Response:
    """`DELETE /settings/secrets/:key` (admin)."""
    require_admin(platform, request)
    return await _delete(platform, request, None)


async def get_model(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/model`."""
    own = await require_own(platform, request)
    model = await platform.store.read(secrets.value_of, own.id, secrets.MODEL_KEY)
    if model is None:
        return web.answer({"model": "", "source": "default"})
    return web.answer({"model": model, "source": "workspace_secrets"})


async def put_model(platform: Platform, request: Request) -> Response:
    """`PUT /workspaces/:id/model`."""
    own = await require_own(platform, request)
    model = web.validate(wire.SetModelRequest, await web.read_object(request, limit=MAX_BODY)).model.strip()
    if model:
        await platform.store.write(store_secrets, own.id, {secrets.MODEL_KEY: model}, platform.now())
    else:
        await platform.store.write(secrets.delete, own.id, secrets.MODEL_KEY)
    await _restart(platform, own.id)
    return web.answer({"status": "saved", "model": model} if model else {"status": "cleared"})


async def _read(request: Request) -> wire.SetSecretRequest:
    data = await web.read_object(request, limit=MAX_BODY)
    try:
        return web.validate(wire.SetSecretRequest, data)
    except Refusal as refusal:
        raise Refusal(400, str(refusal), hint=f"{refusal.body['hint']}; {_KEY_RULE}") from None


async def _delete(platform: Platform, request: Request, workspace_id: str | None) -> Response:
    key: str = request.path_params["key"]
    if not await platform.store.write(secrets.delete, workspace_id, key):
        raise Refusal(404, "secret not found")
    return web.answer({"status": "deleted", "key": key})


async def _restart(platform: Platform, workspace_id: str) -> None:
    """Have the process begin anew with the changed values, where this platform runs it."""
    if (provisioner := platform.hosting.of(workspace_id)) is not None:
        await provisioner.restart(workspace_id)


def _body(row: SecretRow) -> dict[str, Any]:
    return {
        "key": row.key,
        "has_value": True,
        "scope": "global" if row.workspace_id is None else "workspace",
        "created_at": timestamps.render(row.created_at),
        "updated_at": timestamps.render(row.updated_at),
    }


def _global_routes(path: str, summary: str) -> tuple[Route, ...]:
    test = "test_secrets.py::test_the_admin_keeps_secrets_for_all_workspaces"
    return (
        Route(
            method="GET", path=path, handler=list_global, section="11.4", access="admin",
            summary=f"{summary}, without their values.", answers={200: list[wire.SecretRow]}, test=test,
        ),
        Route(
            method="POST", path=path, handler=put_global, section="11.4", access="admin",
            summary="Set one.", body=wire.SetSecretRequest, answers={200: wire.SavedSecret}, refusals=(409,), test=test,
        ),
        Route(
            method="PUT", path=path, handler=put_global, section="11.4", access="admin",
            summary="The same.", body=wire.SetSecretRequest, answers={200: wire.SavedSecret}, refusals=(409,), test=test,
        ),
        Route(
            method="DELETE", path=f"{path}/{{key}}", handler=delete_global, section="11.4", access="admin",
            summary="Delete one.", answers={200: wire.SavedSecret}, test=test,
        ),
    )  # fmt: skip


ROUTES = (
    Route(
        method="GET", path="/workspaces/{id}/secrets/values", handler=get_values, section="11.1, 1.5", access="itself",
        summary="The values for its process: those for all, overlaid by its own.", answers={200: wire.SecretValues},
        test="test_secrets.py::test_values_are_those_for_all_overlaid_by_the_workspaces_own",
    ),
    Route(
        method="GET", path="/workspaces/{id}/secrets", handler=list_own, section="11.2", access="workspace",
        summary="Its secrets, without their values.", answers={200: list[wire.SecretRow]},
        test="test_secrets.py::test_a_secret_is_saved_listed_without_its_value_and_deleted",
    ),
    Route(
        method="POST", path="/workspaces/{id}/secrets", handler=put_own, section="11.2", access="workspace",
        summary="Set one; a process that runs here starts anew.", body=wire.SetSecretRequest, answers={200: wire.SavedSecret},
        refusals=(409,), test="test_secrets.py::test_a_secret_is_saved_listed_without_its_value_and_deleted",
    ),
    Route(
        method="PUT", path="/workspaces/{id}/secrets", handler=put_own, section="11.2", access="workspace",
        summary="The same.", body=wire.SetSecretRequest, answers={200: wire.SavedSecret}, refusals=(409,),
        test="test_secrets.py::test_a_secret_is_saved_listed_without_its_value_and_deleted",
    ),
    Route(
        method="DELETE", path="/workspaces/{id}/secrets/{key}", handler=delete_own, section="11.2", access="workspace",
        summary="Delete one of its own.", answers={200: wire.SavedSecret},
        test="test_secrets.py::test_a_secret_is_saved_listed_without_its_value_and_deleted",
    ),
    Route(
        method="GET", path="/workspaces/{id}/model", handler=get_model, section="11.3, 24.14", access="workspace",
        summary="Its model: the secret `MODEL`.", answers={200: wire.ModelResponse},
        test="test_secrets.py::test_the_model_is_set_read_and_cleared",
    ),
    Route(
        method="PUT", path="/workspaces/{id}/model", handler=put_model, section="11.3, 24.14", access="workspace",
        summary="Set it; empty clears it.", body=wire.SetModelRequest, answers={200: StatusResponse}, refusals=(409,),
        test="test_secrets.py::test_the_model_is_set_read_and_cleared",
    ),
    *_global_routes("/settings/secrets", "The secrets for all workspaces"),
    *_global_routes("/admin/secrets", "Another name of `/settings/secrets`: the secrets"),
)  # fmt: skip
