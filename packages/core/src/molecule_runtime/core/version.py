"""The version of an installed wheel."""

from __future__ import annotations

from importlib import metadata


def version_of(distribution: str) -> str:
    """Return the version of an installed distribution, or `"unknown"` when it has no metadata (a source tree on the path)."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
