"""What every adapter's setup has in common: plugins, skills, tools, the team, and the system prompt made of them.

The order is that of contract `workspace-host.md` 8.3. One broken plugin, skill, feature or peer is a line in
`SetupResult.problems`, never the end of the boot (29.1 item 11).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio.to_thread

from molecule_runtime.core import env
from molecule_runtime.core.adapter import features, prompt
from molecule_runtime.core.adapter.mcp_port import normalize_runtime
from molecule_runtime.core.adapter.mcp_spec import MANAGEMENT_MCP_NAME, MANAGEMENT_MCP_SPEC
from molecule_runtime.core.adapter.platform_brief import ask_platform
from molecule_runtime.core.adapter.types import PrivilegedPluginInstallError, SetupResult
from molecule_runtime.core.plugins import (
    PRIVILEGED_PLUGIN,
    InstallContext,
    InstallResult,
    McpServerAdaptor,
    Plugin,
    PluginAdaptor,
    left_out,
    load_plugins,
    read_mcp_servers,
)
from molecule_runtime.core.registry import DISPLAY_SECTION, in_section

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from molecule_runtime.core.adapter.base import BaseAdapter
    from molecule_runtime.core.adapter.skill import LoadedSkill
    from molecule_runtime.core.adapter.tool import Tool
    from molecule_runtime.core.adapter.types import AdapterConfig
    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.plugins import LoadedPlugins

logger = logging.getLogger(__name__)

DESKTOP_TIER = 4
"""The tier of workspaces with a desktop; contract `runtime.md` 6.5."""


async def common_setup(adapter: BaseAdapter, config: AdapterConfig) -> SetupResult:
    """Do the common part of an adapter's setup."""
    plugins = await _plugins(config)
    results = await adapter.inject_plugins(config, plugins)
    problems = _plugin_problems(results)
    await anyio.to_thread.run_sync(_keep_management_server, adapter, config)
    return await _collected(adapter, config, plugins, problems)


async def collect_again(adapter: BaseAdapter, config: AdapterConfig) -> SetupResult:
    """Read skills, team and prompt files again and assemble the system prompt anew; plugins stay as they were installed."""
    return await _collected(adapter, config, await _plugins(config), [])


async def _plugins(config: AdapterConfig) -> LoadedPlugins:
    return await anyio.to_thread.run_sync(
        load_plugins, Path(config.config_path, "plugins"), Path(env.PLUGINS_DIR.get())
    )


async def _collected(
    adapter: BaseAdapter, config: AdapterConfig, plugins: LoadedPlugins, others: list[str]
) -> SetupResult:
    installed = await anyio.to_thread.run_sync(features.installed)
    problems = [*installed.problems, *plugins.problems, *others]
    told = await ask_platform(config)
    problems += told.problems
    peers = told.peers
    children = [peer for peer in peers if peer.parent_id == config.workspace_id and config.workspace_id]

    def collect() -> tuple[list[LoadedSkill], list[Tool]]:
        skills = _skills(installed, config, adapter.name(), plugins.skill_dirs, problems)
        return skills, _tools(installed, config, children, skills, problems)

    skills, tools = await anyio.to_thread.run_sync(collect)
    assembled = await anyio.to_thread.run_sync(
        lambda: prompt.assemble(
            config.config_path,
            prompt_files=config.prompt_files,
            loaded_skills=skills,
            peers=peers,
            children=children,
            plugin_rules=plugins.rules,
            plugin_prompts=plugins.prompt_fragments,
            parent_context=told.parent_context,
            platform_instructions=told.instructions,
            platform_guardrail=adapter.management_mcp_present(config),
            tool_names=_explained(config, tools),
        )
    )
    problems += assembled.problems
    for problem in problems:
        logger.warning("setup: %s", problem)
    for line in installed.absent:
        logger.info("setup: %s", line)
    config.system_prompt = assembled.text
    return SetupResult(
        system_prompt=assembled.text,
        loaded_skills=skills,
        tools=tools,
        is_coordinator=bool(children),
        children=children,
        absent=installed.absent,
        problems=tuple(problems),
    )


async def install_plugins(adapter: BaseAdapter, config: AdapterConfig, plugins: Any) -> list[InstallResult]:
    """Install each plugin through the hooks of an adapter."""
    listed = cast("Sequence[Plugin]", getattr(plugins, "plugins", plugins) or ())
    results: list[InstallResult] = []
    if not listed:
        return results
    installed = await anyio.to_thread.run_sync(features.installed)
    runtime = normalize_runtime(adapter.name())
    for plugin in listed:
        adaptor = _adaptor(plugin, runtime, installed)
        context = _context(adapter, config, plugin, runtime)
        if adaptor is None:
            result = InstallResult(plugin_name=plugin.name, runtime=runtime, source="none")
            result.warnings += left_out(plugin.root)
        else:
            try:
                result = await adaptor.install(context)
            except PrivilegedPluginInstallError:
                raise
            except Exception as exc:  # one plugin's failure must not cost the others
                logger.warning("plugin %s was not installed", plugin.name, exc_info=True)
                result = InstallResult(plugin_name=plugin.name, runtime=runtime, source="none")
                result.errors.append(f"{type(exc).__name__}: {exc}")
        if plugin.name == PRIVILEGED_PLUGIN and (result.errors or not _declares_management(adapter, config)):
            reason = "; ".join(result.errors or result.warnings) or "the management server is not declared"
            raise PrivilegedPluginInstallError(f"plugin {plugin.name} for runtime {adapter.name()}: {reason}")
        results.append(result)
    return results


def _declares_management(adapter: BaseAdapter, config: AdapterConfig) -> bool:
    return adapter.management_mcp_present(config)


def _adaptor(plugin: Plugin, runtime: str, installed: features.Installed) -> PluginAdaptor | None:
    for feature, plugin_adaptor in installed.offering("plugin_adaptor"):
        try:
            found = plugin_adaptor(plugin, runtime=runtime)
        except Exception:  # another wheel's code may raise anything
            logger.warning("feature %s cannot say how plugin %s is installed", feature, plugin.name, exc_info=True)
            continue
        if found is not None:
            return cast("PluginAdaptor", found)
    servers, problems = read_mcp_servers(plugin.root)
    if servers or problems or plugin.name == PRIVILEGED_PLUGIN:
        return McpServerAdaptor(plugin.name, runtime)
    return None


def _context(adapter: BaseAdapter, config: AdapterConfig, plugin: Plugin, runtime: str) -> InstallContext:
    return InstallContext(
        configs_dir=Path(config.config_path),
        workspace_id=config.workspace_id,
        runtime=runtime,
        plugin_root=plugin.root,
        memory_filename=adapter.memory_filename(),
        register_tool=adapter.register_tool_hook,
        register_subagent=adapter.register_subagent_hook,
        register_mcp_server=lambda name, spec: adapter.register_mcp_server_hook(config, name, spec),
        unregister_mcp_server=lambda name: adapter.unregister_mcp_server_hook(config, name),
        append_to_memory=lambda filename, text: adapter.append_to_memory_hook(config, filename, text),
        logger=logger,
    )


def _plugin_problems(results: object) -> list[str]:
    """Return one line for each thing that went wrong; an adapter may override `inject_plugins` and return nothing."""
    problems: list[str] = []
    for result in cast("list[object]", results) if isinstance(results, list) else []:
        if isinstance(result, InstallResult):
            problems += [f"plugin {result.plugin_name}: {line}" for line in (*result.errors, *result.warnings)]
    return problems


def _keep_management_server(adapter: BaseAdapter, config: AdapterConfig) -> None:
    """Declare the baked management server again where a plugin installation evicted it (20.1 item 8)."""
    if not env.MOLECULE_PLATFORM_AGENT_IMAGE_BAKED.flag() or adapter.management_mcp_present(config):
        return
    try:
        adapter.register_mcp_server_hook(config, MANAGEMENT_MCP_NAME, MANAGEMENT_MCP_SPEC)
    except Exception as exc:  # without the management server a privileged boot must end, whatever the reason
        raise PrivilegedPluginInstallError(f"the platform's management server cannot be declared: {exc}") from exc


def _skills(
    installed: features.Installed, config: AdapterConfig, runtime: str, folders: Sequence[Path], problems: list[str]
) -> list[LoadedSkill]:
    skills: dict[str, LoadedSkill] = {}
    offering = installed.offering("load_skills")
    for feature, load_skills in offering:
        found = _guarded(feature, problems, load_skills, config, runtime=runtime, folders=folders)
        if found is not None:
            problems += found.problems
            for skill in found.skills:
                skills.setdefault(skill.metadata.id, skill)
    if not offering and (config.tools or folders):
        problems.append("the skills of this workspace are not loaded: no installed wheel reads skills")
    return list(skills.values())


def _tools(
    installed: features.Installed,
    config: AdapterConfig,
    children: Sequence[wire.Peer],
    skills: Sequence[LoadedSkill],
    problems: list[str],
) -> list[Tool]:
    tools: dict[str, Tool] = {}
    for feature, offer in installed.offering("tools"):
        for tool in _guarded(feature, problems, offer, config, children=children) or ():
            tools.setdefault(tool.name, tool)
    for skill in skills:
        for tool in skill.tools:
            tools.setdefault(tool.name, tool)
    return list(tools.values())


def _explained(config: AdapterConfig, tools: Sequence[Tool]) -> set[str]:
    """Return the tools that the prompt explains: those of a desktop only to workspaces that have one (contract `runtime.md` 6.5)."""
    names = {tool.name for tool in tools}
    if config.workspace_config is not None and config.workspace_config.tier >= DESKTOP_TIER:
        return names
    return names - {spec.name for spec in in_section(DISPLAY_SECTION)}


def _guarded(feature: str, problems: list[str], call: Callable[..., Any], config: AdapterConfig, **options: Any) -> Any:
    try:
        return call(config, **options)
    except Exception as exc:  # another wheel's code may raise anything
        logger.debug("feature %s failed", feature, exc_info=True)
        problems.append(f"feature {feature} failed: {type(exc).__name__}: {exc}")
        return None
