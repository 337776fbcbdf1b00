"""Fixtures of this wheel's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder `molecule_runtime` as an installation has it, every wheel in one place."""
    folder = tmp_path / "site" / "molecule_runtime"
    folder.mkdir(parents=True)
    for wheel in (Path(__file__).parents[2]).iterdir():
        for item in (wheel / "src" / "molecule_runtime").iterdir():
            if item.is_dir() and item.name != "__pycache__":
                (folder / item.name).symlink_to(item)
            elif item.suffix == ".py":
                # Copied: Python follows a link to find the folder of a script.
                (folder / item.name).write_bytes(item.read_bytes())
    assert (folder / "mcp").is_dir()
    return folder
