"""The predecessor's `mcp_workspace_resolver`: the same functions as `molecule_runtime.mcp_target_resolution`."""

from molecule_runtime.mcp_target_resolution import print_missing_env_help, read_token_file, resolve_workspaces

__all__ = ["print_missing_env_help", "read_token_file", "resolve_workspaces"]
