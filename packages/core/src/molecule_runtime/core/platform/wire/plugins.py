"""Plugins (contract `platform-api.md` 16)."""

from typing import Annotated

from pydantic import Field, StringConstraints

from molecule_runtime.core.platform.wire import NonEmpty, Request, Response


class InstallPluginRequest(Request):
    """16.1: `POST /workspaces/:id/plugins`."""

    source: Annotated[NonEmpty, StringConstraints(max_length=1024)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None


class InstallPluginResponse(Response):
    """16.1: what was installed; `restarting` when the workspace is started anew for it."""

    status: str
    plugin: str
    source: str
    restarting: bool = False


class Plugin(Response):
    """16.5, 16.6: one plugin, as its `plugin.yaml` describes it."""

    name: str
    version: str = ""
    description: str = ""
    author: str = ""
    tags: list[str] = Field(default_factory=list[str])
    skills: list[str] = Field(default_factory=list[str])
    runtimes: list[str] = Field(default_factory=list[str])
    supported_on_runtime: bool | None = None


class PluginSources(Response):
    """16.6: the schemes that a source may have."""

    schemes: list[str]
