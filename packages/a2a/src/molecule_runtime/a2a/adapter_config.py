"""What an adapter is told about its workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.core.adapter import AdapterConfig

if TYPE_CHECKING:
    from molecule_runtime.a2a.settings import HostSettings
    from molecule_runtime.core.config import WorkspaceConfig
    from molecule_runtime.core.platform.client import PlatformClient


def adapter_config_of(settings: HostSettings, config: WorkspaceConfig, client: PlatformClient) -> AdapterConfig:
    """Return the configuration for `setup` and `create_executor`: one object for both, since the first may write into it."""
    return AdapterConfig(
        model=config.model,
        # What earlier versions passed under this name (contract `workspace-host.md` 5.1, step 13).
        tools=list(config.skills),
        runtime_config=dict(config.runtime_config),
        config_path=str(settings.config_path),
        workspace_id=settings.target.id,
        prompt_files=list(config.prompt_files),
        a2a_port=config.a2a.port,
        platform=client,
        workspace_config=config,
        state_dir=str(settings.configs_dir),
    )
