"""The rules, applied to this repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .rules import RULES, load

if TYPE_CHECKING:
    from pathlib import Path

    from .rules import Workspace


@pytest.fixture(scope="module")
def workspace(repository: Path) -> Workspace:
    return load(repository)


@pytest.mark.parametrize("rule", RULES)
def test_the_repository_keeps_the_rule(rule: str, workspace: Workspace) -> None:
    violations = list(RULES[rule](workspace))
    assert not violations, "\n".join(["", *violations])
