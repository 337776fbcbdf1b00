"""`config.yaml`: one model, loaded once, passed down (contract `workspace-host.md` 6, `runtime.md` 17).

`load_config` is for a process that needs the configuration, `load` for a tool that wants to see everything that is wrong with it.
"""

from molecule_runtime.core.config.blocks import (
    A2AConfig,
    ComplianceConfig,
    DelegationConfig,
    EnvConfig,
    EventLogConfig,
    GovernanceConfig,
    HitlChannel,
    HitlConfig,
    McpServer,
    ModelEntry,
    ObservabilityConfig,
    PluginEntry,
    RbacConfig,
    RuntimeConfig,
    SandboxConfig,
    SecurityScanConfig,
    TasksConfig,
    TurnsConfig,
)
from molecule_runtime.core.config.findings import Finding, InvalidConfigError, MissingConfigError
from molecule_runtime.core.config.load import FILE_NAME, LoadedConfig, config_folder, load, load_config
from molecule_runtime.core.config.model import DEFAULT_MODEL, DEFAULT_PROMPT_FILE, WorkspaceConfig
from molecule_runtime.core.config.schema import json_schema

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_PROMPT_FILE",
    "FILE_NAME",
    "A2AConfig",
    "ComplianceConfig",
    "DelegationConfig",
    "EnvConfig",
    "EventLogConfig",
    "Finding",
    "GovernanceConfig",
    "HitlChannel",
    "HitlConfig",
    "InvalidConfigError",
    "LoadedConfig",
    "McpServer",
    "MissingConfigError",
    "ModelEntry",
    "ObservabilityConfig",
    "PluginEntry",
    "RbacConfig",
    "RuntimeConfig",
    "SandboxConfig",
    "SecurityScanConfig",
    "TasksConfig",
    "TurnsConfig",
    "WorkspaceConfig",
    "config_folder",
    "json_schema",
    "load",
    "load_config",
]
