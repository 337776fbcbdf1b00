"""Which workspaces this process serves: the one place that reads the workspace settings (contract `runtime.md` 3.1)."""

from molecule_runtime.core.targets.file import Fingerprint, fingerprint, workspaces_file
from molecule_runtime.core.targets.model import WorkspaceTarget
from molecule_runtime.core.targets.resolving import (
    Findings,
    examine_targets,
    missing_variables,
    org_id_of,
    print_missing_env_help,
    read_token_file,
    resolve_target_for_adapter,
    resolve_targets,
    resolve_workspaces,
)

__all__ = [
    "Findings",
    "Fingerprint",
    "WorkspaceTarget",
    "examine_targets",
    "fingerprint",
    "missing_variables",
    "org_id_of",
    "print_missing_env_help",
    "read_token_file",
    "resolve_target_for_adapter",
    "resolve_targets",
    "resolve_workspaces",
    "workspaces_file",
]
