"""Plugins: folders that bring rules, prompt text, skills and MCP servers (contract `workspace-host.md` 18, `runtime.md` 9.3).

Here is what every adapter needs without another wheel: finding plugins, reading what they contribute, and handing their MCP servers
to the adapter. A feature may bring adaptors that install more (`adapter.features.PluginsFeature`).
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from molecule_runtime.core.adapter.mcp_spec import MANAGEMENT_MCP_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

PRIVILEGED_PLUGIN = "molecule-platform-mcp"
"""The plugin whose failure stops the boot, and the only one that may declare the management server."""

MAX_FILE_BYTES = 256 * 1024
"""Of a rule, a fragment or a descriptor."""

MCP_DESCRIPTORS = ("mcp-servers.json", "settings-fragment.json")
_NEEDS_AN_ADAPTOR = ("adapters", "hooks", "commands", "setup.sh")
# What people keep beside a plugin for its contributors, not for every agent (workspace-host.md 18.4).
_NOT_FRAGMENTS = frozenset({"readme", "changelog", "license", "contributing", "skill", "claude", "known-issues"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One plugin: the name of its folder, and the folder."""

    name: str
    root: Path


@dataclass(slots=True, kw_only=True)
class LoadedPlugins:
    """What the plugins of a workspace contribute.

    Attributes:
        problems: what was left out and why, one line each.
    """

    plugins: list[Plugin] = field(default_factory=list[Plugin])
    rules: list[str] = field(default_factory=list[str])
    prompt_fragments: list[str] = field(default_factory=list[str])
    skill_dirs: list[Path] = field(default_factory=list[Path])
    problems: list[str] = field(default_factory=list[str])

    @property
    def plugin_names(self) -> list[str]:
        """The names, in the order in which they were found."""
        return [plugin.name for plugin in self.plugins]


def _nothing(*_arguments: Any) -> None:
    """Stand in for a hook that the host does not offer."""


@dataclass(slots=True, kw_only=True)
class InstallContext:
    """What a plugin's adaptor may do: the hooks of the adapter that runs here."""

    configs_dir: Path
    workspace_id: str
    runtime: str
    """The key, with `_` for `-`."""
    plugin_root: Path
    memory_filename: str = "CLAUDE.md"
    register_tool: Callable[[str, Callable[..., Any]], None] = _nothing
    register_subagent: Callable[[str, Mapping[str, Any]], None] = _nothing
    register_mcp_server: Callable[[str, Mapping[str, Any]], None] = _nothing
    unregister_mcp_server: Callable[[str], object] = _nothing
    append_to_memory: Callable[[str, str], None] = _nothing
    logger: logging.Logger = logger


@dataclass(slots=True, kw_only=True)
class InstallResult:
    """What came of one installation."""

    plugin_name: str
    runtime: str
    source: str
    """Who installed it: `registry`, `plugin`, `mcp_server` or another adaptor's word; `none` when nobody could."""
    files_written: list[str] = field(default_factory=list[str])
    tools_registered: list[str] = field(default_factory=list[str])
    subagents_registered: list[str] = field(default_factory=list[str])
    mcp_servers_registered: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])


@runtime_checkable
class PluginAdaptor(Protocol):
    """Installs one plugin for one runtime."""

    plugin_name: str
    runtime: str

    async def install(self, ctx: InstallContext) -> InstallResult:
        """Install it; again at each start, so it must be idempotent."""
        ...

    async def uninstall(self, ctx: InstallContext) -> None:
        """Take back what `install` did."""
        ...


class McpServerAdaptor:
    """Hands the MCP servers that a plugin declares to the adapter, and takes them back on uninstall (20.1 item 16)."""

    def __init__(self, plugin_name: str, runtime: str) -> None:
        self.plugin_name = plugin_name
        self.runtime = runtime

    async def install(self, ctx: InstallContext) -> InstallResult:
        """Declare each server in the file that the runtime reads."""
        result = InstallResult(plugin_name=self.plugin_name, runtime=self.runtime, source="mcp_server")
        servers, problems = read_mcp_servers(ctx.plugin_root)
        result.warnings += [*problems, *left_out(ctx.plugin_root)]
        for name, spec in servers.items():
            if name == MANAGEMENT_MCP_NAME and self.plugin_name != PRIVILEGED_PLUGIN:
                # Whoever holds that name is started with the organisation's credentials (20.1 item 9).
                result.errors.append(f"only the plugin {PRIVILEGED_PLUGIN} may declare the MCP server {name}")
                continue
            try:
                ctx.register_mcp_server(name, spec)
            except Exception as exc:  # an adapter's hook may raise anything
                ctx.logger.warning("plugin %s: MCP server %s is not declared: %s", self.plugin_name, name, exc)
                result.errors.append(f"MCP server {name} is not declared: {exc}")
            else:
                result.mcp_servers_registered.append(name)
        return result

    async def uninstall(self, ctx: InstallContext) -> None:
        """Remove each server from that file."""
        for name in read_mcp_servers(ctx.plugin_root)[0]:
            if name != MANAGEMENT_MCP_NAME or self.plugin_name == PRIVILEGED_PLUGIN:
                ctx.unregister_mcp_server(name)


def load_plugins(
    workspace_plugins_dir: str | Path | None = None, shared_plugins_dir: str | Path | None = None
) -> LoadedPlugins:
    """Read every plugin below the two folders, the workspace's own first; of two with one name the first counts.

    Content is found by looking, in sorted order: `rules/*.md`, the fragments that `plugin.yaml` lists under `prompt_fragments`, or
    every `*.md` at the root where it lists none, and `skills/`. A folder that does not exist holds no plugin. What cannot be read
    is left out and named in `problems`.
    """
    found = LoadedPlugins()
    for folder in (workspace_plugins_dir, shared_plugins_dir):
        for root in _folders(folder):
            if root.name in found.plugin_names:
                continue
            found.plugins.append(Plugin(name=root.name, root=root))
            found.rules += _texts(_markdown(root / "rules"), found.problems)
            found.prompt_fragments += _texts(_fragments(root, found.problems), found.problems)
            if (root / "skills").is_dir():
                found.skill_dirs.append(root / "skills")
    return found


def read_mcp_servers(root: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the MCP servers that a plugin declares, `{name: spec}`, and what is wrong with its declaration.

    The first of these that is there and names a server: `contributes.mcpServers` in `plugin.yaml`, `mcp-servers.json` (a map, or one
    under `mcpServers`), `mcpServers` in `settings-fragment.json`.
    """
    problems: list[str] = []
    contributes: object = _manifest(root, problems).get("contributes")
    if isinstance(contributes, dict):
        servers = _servers(
            cast("dict[str, object]", contributes).get("mcpServers"), f"{root.name}/plugin.yaml", problems
        )
        if servers:
            return servers, problems
    for file in MCP_DESCRIPTORS:
        data = _json(root / file, problems)
        inner = data.get("mcpServers", data if file == MCP_DESCRIPTORS[0] else None)
        servers = _servers(inner, f"{root.name}/{file}", problems)
        if servers:
            return servers, problems
    return {}, problems


def left_out(root: Path) -> list[str]:
    """Say what of a plugin takes an adaptor to install, which no installed wheel brought; rules, text and skills work where they are."""
    names = [name for name in _NEEDS_AN_ADAPTOR if (root / name).exists()]
    return [f"not installed, since no installed wheel does that: {', '.join(names)}"] if names else []


def _servers(value: object, place: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    if value is None:
        return {}
    rows: list[tuple[object, object]] = []
    if isinstance(value, dict):
        rows = list(cast("dict[object, object]", value).items())
    elif isinstance(value, list):
        rows = [
            (cast("dict[object, object]", item)["name"], cast("object", item))
            if isinstance(item, dict) and "name" in item
            else (None, item)
            for item in cast("list[object]", value)
        ]
    else:
        problems.append(f"{place}: mcpServers must be an object or a list, not {type(value).__name__}")
    servers: dict[str, dict[str, Any]] = {}
    for name, spec in rows:
        if isinstance(name, str) and name and isinstance(spec, dict):
            servers[name] = {str(key): item for key, item in cast("dict[object, Any]", spec).items()}
        else:
            problems.append(f"{place}: {name!r:.80} is not an MCP server")
    return servers


def _folders(folder: str | Path | None) -> list[Path]:
    if folder is None:
        return []
    try:
        return sorted(entry for entry in Path(folder).iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def _markdown(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".md" and path.is_file())
    except OSError:
        return []


def _fragments(root: Path, problems: list[str]) -> list[Path]:
    listed: object = _manifest(root, problems).get("prompt_fragments")
    if not isinstance(listed, list):
        return [path for path in _markdown(root) if path.stem.lower() not in _NOT_FRAGMENTS]
    paths: list[Path] = []
    for name in cast("list[object]", listed):
        path = root / str(name)
        if path.resolve().is_relative_to(root.resolve()):
            paths.append(path)
        else:
            problems.append(f"plugin {root.name}: prompt fragment {str(name)!r:.80} is outside the plugin")
    return paths


def _texts(paths: list[Path], problems: list[str]) -> list[str]:
    texts = [_text(path, problems).strip() for path in paths]
    return [text for text in texts if text]


def _text(path: Path, problems: list[str]) -> str:
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"is larger than {MAX_FILE_BYTES} bytes")
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as exc:
        problems.append(f"{path} was left out: {exc}")
        return ""


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    text = _text(path, problems)
    try:
        data: object = json.loads(text or "{}")
    except (ValueError, RecursionError) as exc:
        problems.append(f"{path} is not JSON: {exc}")
        return {}
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _manifest(root: Path, problems: list[str]) -> dict[str, object]:
    path = root / "plugin.yaml"
    if not path.is_file():
        return {}
    import yaml

    try:
        data: object = yaml.safe_load(_text(path, problems))
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        problems.append(f"{path} is not YAML: {' '.join(str(exc).split())}")
        return {}
    return cast("dict[str, object]", data) if isinstance(data, dict) else {}
