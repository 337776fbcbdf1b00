"""The predecessor's `builtin_tools.security_scan`: known holes in what a skill's scripts depend on (contract `workspace-host.md` 19.8).

The host itself reads skills and never runs or installs anything of them; this is for an agent that is about to.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from molecule_runtime.core import env
from molecule_runtime.core.errors import MoleculeError
from molecule_runtime.tools.audit import log_event

__all__ = ["Finding", "ScanResult", "SkillSecurityError", "scan_skill_dependencies"]

SECONDS = 120.0
"""For one file; contract 19.8."""

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
MAX_NAMED = 5

_PLACES = ("", "scripts", "tools")
_PASSED_ON = frozenset(
    [
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "SSL_CERT_FILE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "SNYK_TOKEN",
        "PIP_INDEX_URL",
    ]
)
"""What a scanner gets of the environment: to resolve a requirement, pip may run code of the package."""

_BLOCKING = frozenset({"critical", "high"})
_COMMANDS = {
    "snyk": ("snyk", "test", "--json", "--package-manager=pip", "--file={file}"),
    "pip-audit": ("pip-audit", "--progress-spinner=off", "--format=json", "--requirement={file}"),
}
"""The first that is installed is asked. Each exits with 0 for nothing found and 1 for findings; all else is an error."""


class SkillSecurityError(MoleculeError):
    """A skill must not be used: what it depends on has known holes, or that could not be found out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One known hole; `severity` is `high` where the scanner says none."""

    package: str
    version: str
    identifier: str
    severity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """What was found.

    Attributes:
        status: `skipped` where there is nothing to scan or no scanner, `error` where the scanner did not say.
        scanner: which was asked; `""` for none.
        detail: why, of a scan that was skipped or failed.
    """

    skill_name: str
    status: Literal["clean", "vulnerable", "skipped", "error"]
    scanner: str = ""
    findings: tuple[Finding, ...] = ()
    detail: str = ""


def scan_skill_dependencies(
    skill_name: str, skill_path: str | Path, mode: str = "warn", fail_open_if_no_scanner: bool = True
) -> ScanResult:
    """Look up what the `requirements.txt` of a skill (beside `SKILL.md`, in `scripts/` or `tools/`) names. Blocking, for minutes.

    Args:
        skill_name: for messages.
        skill_path: its folder.
        mode: `off` looks at nothing, `warn` only reports, `block` raises.
        fail_open_if_no_scanner: let a skill through where neither `snyk` nor `pip-audit` is installed, also with `block`.

    Raises:
        SkillSecurityError: with `block`: a hole that is high or critical, a scanner that failed, or none at all.
    """
    result = _skipped(skill_name, "off") if mode == "off" else _scanned(skill_name, Path(skill_path))
    outcome = {"error": "failure"}.get(result.status, result.status)
    found = [f"{each.package} {each.version} {each.identifier}" for each in result.findings]
    log_event("security_scan", "scan", skill_name, outcome, scanner=result.scanner, findings=found[:MAX_NAMED])
    if mode != "block":
        return result
    if grave := [each for each in result.findings if each.severity in _BLOCKING]:
        named = ", ".join(f"{each.package} {each.version} ({each.identifier})" for each in grave[:MAX_NAMED])
        raise SkillSecurityError(
            f"skill {skill_name!r} depends on {len(grave)} packages with known holes: {named}; use versions that mend them"
        )
    if result.status == "error" or (result.detail == _NO_SCANNER and not fail_open_if_no_scanner):
        raise SkillSecurityError(f"what skill {skill_name!r} depends on could not be looked up: {result.detail}")
    return result


_NO_SCANNER = "neither snyk nor pip-audit is installed; pip install pip-audit"


def _scanned(skill_name: str, root: Path) -> ScanResult:
    files = [path for place in _PLACES if (path := root / place / "requirements.txt").is_file()]
    if not files:
        return _skipped(skill_name, "it names no requirements.txt")
    scanner = next((name for name in _COMMANDS if shutil.which(name)), "")
    if not scanner:
        return _skipped(skill_name, _NO_SCANNER)
    findings: list[Finding] = []
    try:
        for file in files:
            findings += _read(scanner, _output([part.format(file=file) for part in _COMMANDS[scanner]]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        detail = f"{scanner} failed: {' '.join(str(exc).split()) or type(exc).__name__}"
        return ScanResult(skill_name=skill_name, status="error", scanner=scanner, detail=detail)
    status: Literal["clean", "vulnerable"] = "vulnerable" if findings else "clean"
    return ScanResult(skill_name=skill_name, status=status, scanner=scanner, findings=tuple(findings))


def _output(command: list[str]) -> Any:
    """Run a scanner, with all of its processes for `SECONDS` at most, and return the JSON that it writes.

    Raises:
        ValueError: it failed, took too long, or wrote no JSON.
    """
    with tempfile.TemporaryFile() as written:
        process = subprocess.Popen(  # noqa: S603 - a program by its name and files by their paths, never a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in env.current().items() if name in _PASSED_ON},
            start_new_session=True,
        )
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise ValueError(f"it did not end within {SECONDS:.0f} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        written.seek(0)
        content = written.read(MAX_OUTPUT_BYTES + 1)
    if code not in {0, 1}:
        raise ValueError(f"it exited with {code}")
    if len(content) > MAX_OUTPUT_BYTES:
        raise ValueError(f"it wrote more than {MAX_OUTPUT_BYTES} bytes")
    return json.loads(content)


def _read(scanner: str, data: Any) -> list[Finding]:
    if scanner == "snyk":
        projects = cast("list[dict[str, Any]]", data if isinstance(data, list) else [data])
        return [
            Finding(
                package=str(hole.get("packageName") or hole.get("moduleName") or ""),
                version=str(hole.get("version") or ""),
                identifier=str(hole["id"]),
                severity=str(hole.get("severity") or "high").lower(),
            )
            for project in projects
            for hole in project["vulnerabilities"]
        ]
    return [
        Finding(
            package=str(dependency["name"]),
            version=str(dependency.get("version") or ""),
            identifier=str(hole["id"]),
            severity="high",
        )
        for dependency in data["dependencies"]
        for hole in dependency.get("vulns", [])
    ]


def _skipped(skill_name: str, detail: str) -> ScanResult:
    return ScanResult(skill_name=skill_name, status="skipped", detail=detail)
