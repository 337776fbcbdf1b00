"""The README's adapter is a program: it is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .support import Workspace, ask, process, ready, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

README = Path(__file__).parents[1] / "README.md"


def block(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    return match[1]


@pytest.mark.anyio
async def test_the_adapter_of_the_readme_answers(make_workspace: Callable[..., Workspace]) -> None:
    source = block("python")
    assert len(source.strip().splitlines()) <= 20
    workspace = make_workspace(source)
    config = block("yaml").replace("8000", str(workspace.port))
    (workspace.root / "configs" / "config.yaml").write_text(config)
    # Found in the folder that the command is run in, as the README says.
    async with process(workspace, PYTHONPATH=""):
        await ready(workspace)
        assert text_of(await ask(workspace, "hello")) == "HELLO"
