"""Which workspaces an adapter serves: the stable public surface (contract `runtime.md` 3.2)."""

from molecule_runtime.core.targets import (
    print_missing_env_help,
    read_token_file,
    resolve_target_for_adapter,
    resolve_workspaces,
)

__all__ = ["print_missing_env_help", "read_token_file", "resolve_target_for_adapter", "resolve_workspaces"]
