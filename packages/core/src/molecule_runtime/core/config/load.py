"""Loads `config.yaml`: reads it once, applies the environment, and reports everything that is wrong at once."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from pydantic import ValidationError

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.config.blocks import HEARTBEAT_RANGE
from molecule_runtime.core.config.findings import (
    Finding,
    InvalidConfigError,
    MissingConfigError,
    dotted,
    shown,
)
from molecule_runtime.core.config.model import WorkspaceConfig
from molecule_runtime.core.config.overrides import DEPRECATED, OVERRIDES
from molecule_runtime.core.config.positions import Problem, Reader, compose, plain_value
from molecule_runtime.core.config.review import annotation_at, rule_of, unknown_keys
from molecule_runtime.core.config.values import is_text
from molecule_runtime.core.secretfile import expand_home

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.core.config.findings import KeyPath

logger = logging.getLogger(__name__)

FILE_NAME = "config.yaml"

MAX_BYTES = 256 * 1024
"""The largest file in use has some 20 KiB."""

MAX_PROMPT_BYTES = 256 * 1024
"""Of a prompt that a `*_file` key names: it goes into an agent's context."""

MAX_FINDINGS = 200
"""More tell nobody anything."""

_TWO_PLACES = {("model",), ("provider",), ("models",), ("providers",), ("event_log",)}
_NOTHING: Final = object()
_PROMPTS = ("initial_prompt", "idle_prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """What one reading of the file gave.

    Attributes:
        path: the file.
        config: the configuration; None when there are errors.
        findings: everything noticed, in the order of the file.
    """

    path: Path
    config: WorkspaceConfig | None
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What makes the file unusable."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What is worth a look."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")


def config_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of `config.yaml`: `WORKSPACE_CONFIG_PATH`, else the folder for tokens and state.

    Raises:
        ConfigurationError: neither names a usable folder.
    """
    if env.WORKSPACE_CONFIG_PATH.is_set(environ):
        return expand_home(env.WORKSPACE_CONFIG_PATH.get(environ))
    return configs_dir.resolve(environ)


def load_config(
    folder: Path | str | None = None, environ: Mapping[str, str] | None = None, *, strict: bool = False
) -> WorkspaceConfig:
    """Read `config.yaml` in `folder`, with the environment applied, and log what is worth a look.

    Args:
        folder: where the file is; by default `config_folder(environ)`.
        environ: the environment; by default that of the process.
        strict: keys that nothing knows are errors.

    Raises:
        MissingConfigError: there is no such file.
        InvalidConfigError: the file cannot be used; `findings` names every place, value and remedy.
    """
    loaded = load(config_folder(environ) if folder is None else Path(folder), environ, strict=strict)
    if loaded.config is None:
        missing = any(finding.code == "missing-file" for finding in loaded.errors)
        raise (MissingConfigError if missing else InvalidConfigError)(loaded.errors)
    for finding in loaded.warnings:
        logger.warning("%s", finding)
    return loaded.config


def load(folder: Path | str, environ: Mapping[str, str] | None = None, *, strict: bool = False) -> LoadedConfig:
    """Read `config.yaml` in `folder` and report everything that is wrong. Never raises on account of the file."""
    folder = Path(folder)
    loading = _Loading(folder=folder, path=folder / FILE_NAME, environ=environ, strict=strict)
    try:
        config = loading.run()
    except Problem as problem:
        loading.add_problem(problem)
        config = None
    findings = sorted(loading.findings, key=lambda finding: (finding.line or 0, finding.column or 0))
    if any(finding.severity == "error" for finding in findings):
        config = None
    return LoadedConfig(path=loading.path, config=config, findings=tuple(findings[:MAX_FINDINGS]))


@dataclass(slots=True, kw_only=True)
class _Loading:
    folder: Path
    path: Path
    environ: Mapping[str, str] | None
    strict: bool
    reader: Reader = field(default_factory=Reader)
    findings: list[Finding] = field(default_factory=list[Finding])
    from_environment: dict[KeyPath, str] = field(default_factory=dict["KeyPath", str])

    def run(self) -> WorkspaceConfig | None:
        text = _read(self.path, MAX_BYTES)
        root = compose(text)
        data: object = self.reader.read(root, WorkspaceConfig) if root is not None else {}
        for problem in self.reader.problems:
            self.add_problem(problem)
        if data is None:
            data = {}
        if not isinstance(data, dict):
            kind = "a list" if isinstance(data, list) else "one value"
            raise Problem("not-a-mapping", f"must hold a mapping of keys, not {kind}", "write `name: ...` lines", 1, 1)
        values = cast("dict[str, Any]", data)
        written = {**values}
        self._apply_environment(values)
        self._read_prompts(values)
        config = self._validate(values)
        for path, near in unknown_keys(written):
            self._add(
                "error" if self.strict else "warning",
                "unknown-key",
                path,
                "is not a known key",
                f"did you mean {near}?" if near else "remove it unless something else reads it",
                place=self.reader.keys.get(path),
            )
        if config is not None:
            self._look_twice(written, config)
        return config

    # --- steps ------------------------------------------------------------------------------------------------------------

    def _apply_environment(self, values: dict[str, Any]) -> None:
        for override in OVERRIDES:
            found = override.find(self.environ)
            if found is None:
                continue
            variable, text = found
            block = values
            for key in override.path[:-1]:
                if block.get(key) is None:
                    block[key] = {}
                below: object = block[key]
                if not isinstance(below, dict):
                    break  # reported as a wrong value
                block = cast("dict[str, Any]", below)
            else:
                wants_text = is_text(annotation_at(WorkspaceConfig, override.path).annotation)
                block[override.path[-1]] = text if wants_text else plain_value(text)
                self.from_environment[override.path] = f"environment variable {variable.name}"
                if variable in DEPRECATED:
                    remedy = f"set {DEPRECATED[variable].name} instead"
                    self._add("warning", "deprecated", override.path, "is set by a variable of an old name", remedy)

    def _read_prompts(self, values: dict[str, Any]) -> None:
        for key in _PROMPTS:
            name = values.get(f"{key}_file")
            if not isinstance(name, str) or not name.strip() or values.get(key):
                continue
            path: KeyPath = (f"{key}_file",)
            target = self._inside(path, name)
            if target is None:
                continue
            try:
                text = _read(target, MAX_PROMPT_BYTES).strip()
            except Problem as problem:
                if problem.code == "missing-file":
                    # The contract has a missing prompt file mean no prompt (`workspace-host.md` 6).
                    message, remedy = "names a file that does not exist", "create it, or remove the key"
                    self._add("warning", "missing-file", path, message, remedy, value=name)
                else:
                    message = f"names a file that {problem.message}"
                    self._add("error", problem.code, path, message, problem.remedy, value=name)
            else:
                values[key] = text
        names = values.get("prompt_files")
        for index, name in enumerate(cast("list[object]", names) if isinstance(names, list) else []):
            if isinstance(name, str):
                self._inside(("prompt_files", index), name)

    def _inside(self, path: KeyPath, name: str) -> Path | None:
        """Return the file that a key names when it is inside the folder, links followed."""
        try:
            target = (self.folder / name).resolve()
            if target.is_relative_to(self.folder.resolve()):
                return target
        except (OSError, ValueError, RuntimeError):
            self._add(
                "error", "bad-path", path, "is not the name of a file", f"name a file in {self.folder}", value=name
            )
            return None
        remedy = f"copy it into {self.folder}"
        self._add("error", "outside-folder", path, "names a file outside of the folder", remedy, value=name)
        return None

    def _validate(self, values: dict[str, Any]) -> WorkspaceConfig | None:
        try:
            return WorkspaceConfig.model_validate(values)
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
        for error in errors:
            path = error["loc"]
            if path[:1] in _TWO_PLACES and path[:1] not in self.from_environment and path[:1] not in self.reader.keys:
                continue  # reported at the place where it stands
            if any(finding.key == dotted(path) and finding.severity == "error" for finding in self.findings):
                continue
            if error["type"] == "missing":
                self._add("error", "missing-key", path, "is missing", "add it")
                continue
            rule, remedy = rule_of(
                path, cast("Mapping[str, Any]", error), quoted=isinstance(error["input"], str) and self._is_quoted(path)
            )
            self._add("error", "wrong-value", path, rule, remedy, value=self._written(path, error["input"]))
        return None

    def _written(self, path: KeyPath, value: object) -> object:
        """Return a value as the file has it: the model may have seen it changed."""
        if path in self.from_environment or not (isinstance(value, str) or value is None):
            return value
        return self.reader.raw.get(path, value)

    def _is_quoted(self, path: KeyPath) -> bool:
        """Tell whether quotes turned a number or a switch into text."""
        return path in self.reader.quoted and not isinstance(plain_value(self.reader.raw[path]), (str, type(None)))

    def _look_twice(self, written: dict[str, Any], config: WorkspaceConfig) -> None:
        inner = config.runtime_config
        if written.get("model") and inner.get("model") and written["model"] != inner["model"]:
            self._add(
                "warning",
                "two-places",
                ("runtime_config", "model"),
                "differs from `model` at the top level, which wins",
                "keep one of the two",
            )
        for key in ("auth_token_env", "auth_token_file"):
            if inner.get(key):
                path = ("runtime_config", key)
                self._add("warning", "deprecated", path, "is an old form", "use runtime_config.required_env")
        path = ("observability", "heartbeat_interval_seconds")
        asked, taken = self.reader.raw.get(path), config.observability.heartbeat_interval_seconds
        if asked is not None and plain_value(asked) not in {None, taken}:
            low, high = HEARTBEAT_RANGE
            remedy = f"write a number from {low:g} to {high:g}"
            self._add("warning", "clamped", path, f"is taken as {taken:g}", remedy, value=plain_value(asked))

    # --- findings ---------------------------------------------------------------------------------------------------------

    def add_problem(self, problem: Problem) -> None:
        """Add what kept the file, or a part of it, from being read."""
        place = None if problem.line is None else (problem.line, problem.column or 1)
        self._add("error", problem.code, problem.path, problem.message, problem.remedy, place=place, by_place=True)

    def _add(
        self,
        severity: Literal["error", "warning"],
        code: str,
        path: KeyPath,
        message: str,
        remedy: str,
        *,
        value: object = _NOTHING,
        place: tuple[int, int] | None = None,
        by_place: bool = False,
    ) -> None:
        """Add a finding about a key, at its value or at the nearest mapping around it."""
        file, text = str(self.path), None if value is _NOTHING else shown(value, path)
        if path in self.from_environment:
            file, place = self.from_environment[path], None
            remedy = "correct or unset it" if severity == "error" else remedy
        elif not by_place:
            around = path
            while place is None and around:
                place = self.reader.values.get(around)
                around = around[:-1]
        self.findings.append(
            Finding(
                severity=severity,
                code=code,
                file=file,
                line=place[0] if place else None,
                column=place[1] if place else None,
                key=dotted(path),
                value=text,
                message=message,
                remedy=remedy,
            )
        )


def _read(path: Path, limit: int) -> str:
    """Return the text of a file.

    Raises:
        Problem: it is missing, too large, not a regular file, not UTF-8, or may not be read.
    """
    try:
        # Non-blocking: opening a pipe would otherwise wait for a writer, for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as handle:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Problem("unreadable", "cannot be read: it is not a regular file", "put a file there")
            data = handle.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise Problem(
            "missing-file",
            "does not exist",
            f"set {env.WORKSPACE_CONFIG_PATH.name} to the folder that holds {FILE_NAME}",
        ) from None
    except IsADirectoryError:
        raise Problem("unreadable", "cannot be read: it is a folder", "put a file there") from None
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise Problem("unreadable", f"cannot be read ({reason})", "make it readable by this user") from None
    except ValueError:
        raise Problem("unreadable", "is not the name of a file", "name a file") from None
    if len(data) > limit:
        raise Problem("too-large", f"is larger than {limit // 1024} KiB", "make it smaller")
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise Problem("encoding", "is UTF-16 text", "save it as UTF-8", 1, 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        column = exc.start - data[: exc.start].rfind(b"\n")
        message = f"is not UTF-8 text (byte {exc.start})"
        raise Problem("encoding", message, "save it as UTF-8", line, column) from None
