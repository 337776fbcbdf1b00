"""Checks of what importing the adapter's module does, and how long it takes; each in a process of its own."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from molecule_runtime.core.testing import import_probe
from molecule_runtime.core.testing.kit import DEADLINE, Kit, expect

_RUNS = 3


class ImportChecks(Kit):
    """Importing an adapter defines things and does nothing else."""

    def test_importing_it_has_no_side_effects(self, tmp_path: Path) -> None:
        """No environment read, network, process, thread or file: a host imports adapters it may never run."""
        report = self._probe(tmp_path)
        expect(not report.get("error"), f"the module cannot be imported: {report.get('error')}")
        effects = report.get("effects", [])
        expect(not effects, f"importing {report.get('module')} does more than define things: {'; '.join(effects)}")

    def test_importing_it_is_quick(self, tmp_path: Path) -> None:
        """Heavy frameworks belong into `setup` and `create_executor`, where a deadline and a reason await them."""
        taken: list[float] = []
        floor: list[float] = []
        for _ in range(_RUNS):
            report = self._probe(tmp_path)
            expect(not report.get("error"), f"the module cannot be imported: {report.get('error')}")
            taken.append(report["seconds"])
            floor.append(report["floor"])
            if min(taken) / min(floor) <= self.max_import_ratio / 2:
                # No noise makes this of one that is too slow.
                break
        ratio = min(taken) / min(floor)
        expect(
            ratio <= self.max_import_ratio,
            f"importing the adapter takes {ratio:.1f}x of importing httpx, pydantic and yaml ({min(taken):.2f} s); "
            f"at most {self.max_import_ratio:.0f}x is allowed",
        )

    def _probe(self, folder: Path) -> dict[str, Any]:
        """Import the module in a bare interpreter and return what the probe saw."""
        module = self.adapter_class.__module__
        request = {"module": module, "file": str(Path(inspect.getfile(self.adapter_class)).resolve()), "path": sys.path}
        home = folder / "import-home"
        home.mkdir(exist_ok=True)
        result = subprocess.run(  # noqa: S603 - our own probe
            [sys.executable, "-I", "-B", str(Path(import_probe.__file__))],
            input=json.dumps(request),
            cwd=home,
            env={"PATH": os.defpath, "HOME": str(home)},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=DEADLINE,
            check=False,
        )
        lines = result.stdout.strip().splitlines()
        if result.returncode != 0 or not lines:
            said = " ".join(result.stderr.split())[-500:]
            return {"module": module, "error": f"the interpreter ended with {result.returncode}: {said}"}
        report: dict[str, Any] = json.loads(lines[-1])
        left = sorted(entry.name for entry in home.iterdir())
        report["effects"] = [*report.get("effects", []), *(f"left {name} behind" for name in left)]
        return report
