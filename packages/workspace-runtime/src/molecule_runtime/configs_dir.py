"""The predecessor's `configs_dir`: the resolver is `molecule_runtime.core.configs_dir`."""

from molecule_runtime.core.configs_dir import resolve

__all__ = ["reset_cache", "resolve"]


def reset_cache() -> None:
    """Do nothing, as in the predecessor: the folder is resolved anew on each call (contract `runtime.md` 2.1)."""
