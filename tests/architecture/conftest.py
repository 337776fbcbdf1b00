"""Fixtures of the architecture tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the repository under test."""
    root = Path(__file__).resolve().parents[2]
    assert (root / "packages").is_dir(), f"{root} is not the repository"
    return root
