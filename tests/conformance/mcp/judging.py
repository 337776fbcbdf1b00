"""Reads what the suite found, and says what is wrong with it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.conformance.mcp.scenarios import Applicable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from tests.conformance.mcp.scenarios import NotApplicable

Checks = list[dict[str, Any]]

_FOLDER = re.compile(r"server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")
_PASSED = {"SUCCESS", "INFO", "SKIPPED"}


def read(folder: Path) -> dict[str, Checks]:
    """Return the checks of every scenario that the suite left in `folder`."""
    found: dict[str, Checks] = {}
    for file in folder.glob("*/checks.json"):
        match = _FOLDER.fullmatch(file.parent.name)
        assert match is not None, file
        found[match["scenario"]] = json.loads(file.read_text(encoding="utf-8"))
    return found


def problems(
    found: Mapping[str, Checks],
    known: Mapping[str, Applicable | NotApplicable],
    revision: str,
    capabilities: Collection[str],
) -> Iterator[str]:
    """Say what is wrong: scenarios that nobody has looked at, that are gone, and those that apply and do not pass."""
    expected = {name for name, scenario in known.items() if revision in scenario.revisions}
    for name in sorted(found.keys() - expected):
        yield f"{name}: new at {revision}; say in scenarios.py whether it applies"
    for name in sorted(expected - found.keys()):
        yield f"{name}: the suite has it no more at {revision}"
    for name, checks in sorted(found.items()):
        scenario = known.get(name)
        if not isinstance(scenario, Applicable) or not set(scenario.needs) <= set(capabilities):
            continue
        if not any(check["status"] == "SUCCESS" for check in checks):
            yield f"{name}: nothing was checked"
        failed = {check["id"]: check for check in checks if check["status"] not in _PASSED}
        for identity, check in failed.items():
            if identity not in scenario.excepted:
                yield f"{name}: {identity}: {check['status']}: {check.get('errorMessage')}"
        for identity in sorted(scenario.excepted.keys() - failed.keys()):
            yield f"{name}: {identity} passes now; take it off its exceptions"
