"""The README's adapter is a program: it is run as it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .gated import said, send, text_in
from .support import Workspace, ask, command, ready, serving, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

README = Path(__file__).parents[1] / "README.md"


def block(language: str, after: str = "") -> str:
    text = README.read_text(encoding="utf-8").partition(after or "# ")[2]
    match = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
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
    async with command(workspace, PYTHONPATH=""):
        await ready(workspace)
        assert text_of(await ask(workspace, "hello")) == "HELLO"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("file", "message", "answer"),
    [("`speak.py`", "hello", "Let me count. 5 characters"), ("`sorter.py`", "10\n9\n8", "8\n9\n10\n")],
)
async def test_the_executors_of_the_readme_answer(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch, file: str, message: str, answer: str
) -> None:
    source = block("python", after=file)
    assert len(source.strip().splitlines()) <= 15
    workspace = make_workspace(source)
    monkeypatch.setattr(sys, "path", [str(workspace.root), *sys.path])
    (workspace.root / "shout.py").write_text(block("python"))
    monkeypatch.delitem(sys.modules, "shout", raising=False)
    async with serving(workspace):
        await ready(workspace)
        assert text_in(await send(workspace, said(message))) == answer
