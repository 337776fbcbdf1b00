"""Plugins (contract 16): those in the data folder, installed for workspaces that run here and fetched by those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from starlette.responses import Response

from molecule_runtime.core.platform.wire import StatusResponse
from molecule_runtime.core.platform.wire import plugins as wire
from molecule_runtime.localplatform import shelf, web
from molecule_runtime.localplatform.access import require_itself, require_own
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.shelf import Manifest, ShelfError
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request

    from molecule_runtime.localplatform.platform import Platform

MAX_BODY = 64 * 1024
"""Of an installation's body (contract 16.1)."""

SCHEMES = ("local",)


async def list_public(platform: Platform, request: Request) -> Response:
    """`GET /plugins[?runtime=]`."""
    return web.answer(await _bodies(platform, request.query_params.get("runtime", "")))


async def list_sources(platform: Platform, request: Request) -> Response:
    """`GET /plugins/sources`."""
    del platform, request
    return web.answer({"schemes": list(SCHEMES)})


async def list_available(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/plugins/available`."""
    own = await require_own(platform, request)
    return web.answer(await _bodies(platform, own.runtime))


async def list_installed(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/plugins`: what lies in the folder of a workspace that runs here."""
    own = await require_own(platform, request)
    provisioner = platform.hosting.of(own.id)
    if provisioner is None:
        return web.answer([])
    found = await anyio.to_thread.run_sync(shelf.manifests, provisioner.folder(own.id) / "plugins")
    return web.answer(
        [{**manifest.body(), "supported_on_runtime": manifest.supports(own.runtime)} for manifest in found]
    )


async def install(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/plugins`."""
    own = await require_own(platform, request)
    wanted = web.validate(wire.InstallPluginRequest, await web.read_object(request, limit=MAX_BODY))
    name = _name_of(wanted.source)
    manifest = await _in_thread(lambda: shelf.manifest_of(_shelf(platform), name), wanted.source)
    provisioner = platform.hosting.of(own.id)
    if provisioner is None:
        hint = f"fetch it: GET /workspaces/{own.id}/plugins/{name}/download, unpack it into the folder `plugins` of the configuration"
        raise Refusal(
            422,
            "this platform does not run the workspace, which must fetch its plugins itself",
            source=wanted.source,
            hint=hint,
        )
    if not manifest.supports(own.runtime):
        raise Refusal(422, f"the plugin does not run on {own.runtime}", source=wanted.source)
    if wanted.sha256 is not None:
        found = await _in_thread(lambda: shelf.digest(_shelf(platform) / name), wanted.source)
        if found != wanted.sha256:
            raise Refusal(422, "the plugin is not the one that was asked for", source=wanted.source, sha256=found)
    folder = provisioner.folder(own.id)
    await _in_thread(lambda: shelf.install(_shelf(platform), name, folder), wanted.source)
    await provisioner.restart(own.id)
    body = {"status": "installed", "plugin": name, "source": wanted.source, "restarting": True}
    return web.answer(body)


async def uninstall(platform: Platform, request: Request) -> Response:
    """`DELETE /workspaces/:id/plugins/:name`."""
    own = await require_own(platform, request)
    name = _name_of(request.path_params["name"])
    provisioner = platform.hosting.of(own.id)
    removed = False
    if provisioner is not None:
        folder = provisioner.folder(own.id)
        removed = await _in_thread(lambda: shelf.uninstall(folder, name), name)
    if provisioner is None or not removed:
        raise Refusal(404, "plugin not found")
    await provisioner.restart(own.id)
    return web.answer({"status": "uninstalled", "plugin": name})


async def download(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/plugins/:name/download[?source=]`: for workspaces that run elsewhere."""
    await require_itself(platform, request)
    source = request.query_params.get("source") or f"local://{request.path_params['name']}"
    name = _name_of(source)
    if name != request.path_params["name"]:
        raise Refusal(400, "the source is another plugin's", source=source)
    await _in_thread(lambda: shelf.manifest_of(_shelf(platform), name), source)
    data = await _in_thread(lambda: shelf.packed(_shelf(platform), name), source)
    headers = {
        "X-Plugin-Name": name,
        "X-Plugin-Source": source,
        "Content-Disposition": f'attachment; filename="{name}.tar.gz"',
    }
    return Response(data, headers=headers, media_type="application/gzip")


async def _bodies(platform: Platform, runtime: str) -> list[dict[str, Any]]:
    found: list[Manifest] = await anyio.to_thread.run_sync(shelf.manifests, _shelf(platform))
    return [manifest.body() for manifest in found if not runtime or manifest.supports(runtime)]


def _shelf(platform: Platform) -> Path:
    return platform.settings.data / "plugins"


def _name_of(source: str) -> str:
    scheme, separator, rest = source.partition("://")
    name = rest if separator else source
    if separator and scheme not in SCHEMES:
        hint = "put the plugin into the folder `plugins` of the data folder and name it local://NAME"
        raise Refusal(400, f"sources of the scheme {scheme[:20]} are not fetched here", source=source, hint=hint)
    if not shelf.NAME.fullmatch(name):
        raise Refusal(400, "a plugin's name has letters, digits, dots, hyphens and underscores", source=source[:200])
    return name


async def _in_thread(work: Callable[[], Any], source: str) -> Any:
    try:
        return await anyio.to_thread.run_sync(work)
    except ShelfError as exc:
        raise Refusal(exc.status, str(exc), source=source) from None
    except OSError as exc:
        raise Refusal(503, "the plugin could not be copied", source=source, hint=exc.strerror or str(exc)) from None


_NAME_TEST = "test_plugins.py::test_a_plugin_that_is_not_there_is_neither_installed_nor_fetched"
_TEST = "test_plugins.py::test_what_plugins_there_are_is_public"

ROUTES = (
    Route(
        method="GET", path="/plugins", handler=list_public, section="16.6", access="anyone", summary="The plugins that there are.",
        answers={200: list[wire.Plugin]}, parameters=(Parameter(name="runtime", meaning="those that run on this one"),), test=_TEST,
    ),
    Route(
        method="GET", path="/plugins/sources", handler=list_sources, section="16.6", access="anyone",
        summary="The schemes of sources.", answers={200: wire.PluginSources}, test=_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/plugins", handler=list_installed, section="16.6", access="workspace",
        summary="What is installed for it.", answers={200: list[wire.Plugin]}, test=_NAME_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/plugins/available", handler=list_available, section="16.6", access="workspace",
        summary="The plugins that run on its runtime.", answers={200: list[wire.Plugin]}, test=_NAME_TEST,
    ),
    Route(
        method="POST", path="/workspaces/{id}/plugins", handler=install, section="16.1", access="workspace",
        summary="Install a plugin, where the workspace runs here.", body=wire.InstallPluginRequest,
        answers={200: wire.InstallPluginResponse}, refusals=(422,), test=_NAME_TEST,
    ),
    Route(
        method="DELETE", path="/workspaces/{id}/plugins/{name}", handler=uninstall, section="16.3", access="workspace",
        summary="Remove a plugin.", answers={200: StatusResponse}, test=_NAME_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/plugins/{name}/download", handler=download, section="16.4", access="itself",
        summary="Fetch a plugin.", answers={200: "application/gzip"}, refusals=(422,), test=_NAME_TEST,
        parameters=(Parameter(name="source", meaning="local://NAME"),),
    ),
)  # fmt: skip
