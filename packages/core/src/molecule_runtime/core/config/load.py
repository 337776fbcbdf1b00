"""Loads `config.yaml`: reads it once, applies the environment, and reports everything that is wrong at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.config.blocks import HEARTBEAT_RANGE
from molecule_runtime.core.config.document import NOTHING, Document, read_text
from molecule_runtime.core.config.findings import InvalidConfigError, MissingConfigError
from molecule_runtime.core.config.model import WorkspaceConfig
from molecule_runtime.core.config.overrides import DEPRECATED, OVERRIDES
from molecule_runtime.core.config.positions import Problem, plain_value
from molecule_runtime.core.config.review import annotation_at
from molecule_runtime.core.config.values import is_text
from molecule_runtime.core.secretfile import expand_home

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.core.config.findings import Finding, KeyPath

logger = logging.getLogger(__name__)

FILE_NAME = "config.yaml"

MAX_PROMPT_BYTES = 256 * 1024
"""Of a prompt that a `*_file` key names: it goes into an agent's context."""

_TWO_PLACES = {("model",), ("provider",), ("models",), ("providers",), ("event_log",)}
_PROMPTS = ("initial_prompt", "idle_prompt")
_MISSING = f"set {env.WORKSPACE_CONFIG_PATH.name} to the folder that holds {FILE_NAME}"


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
    loading = _Loading(folder, environ, strict=strict)
    try:
        config = loading.run()
    except Problem as problem:
        loading.add_problem(problem)
        config = None
    return LoadedConfig(path=loading.path, config=None if loading.failed else config, findings=loading.in_order())


class _Loading(Document[WorkspaceConfig]):
    """The reading of one `config.yaml`, with the environment applied and the files that it names."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None, *, strict: bool) -> None:
        super().__init__(folder / FILE_NAME, WorkspaceConfig, missing=_MISSING)
        self.folder = folder
        self.environ = environ
        self.strict = strict
        self.from_environment: dict[KeyPath, str] = {}

    def run(self) -> WorkspaceConfig | None:
        values = self.read()
        written = {**values}
        self._apply_environment(values)
        self._read_prompts(values)
        config = self.validate(values)
        self.look_for_unknown_keys(written, "error" if self.strict else "warning")
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
                    self.add("warning", "deprecated", override.path, "is set by a variable of an old name", remedy)

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
                text = read_text(target, MAX_PROMPT_BYTES, missing=_MISSING).strip()
            except Problem as problem:
                if problem.code == "missing-file":
                    # The contract has a missing prompt file mean no prompt (`workspace-host.md` 6).
                    message, remedy = "names a file that does not exist", "create it, or remove the key"
                    self.add("warning", "missing-file", path, message, remedy, value=name)
                else:
                    message = f"names a file that {problem.message}"
                    self.add("error", problem.code, path, message, problem.remedy, value=name)
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
            self.add(
                "error", "bad-path", path, "is not the name of a file", f"name a file in {self.folder}", value=name
            )
            return None
        remedy = f"copy it into {self.folder}"
        self.add("error", "outside-folder", path, "names a file outside of the folder", remedy, value=name)
        return None

    def _look_twice(self, written: dict[str, Any], config: WorkspaceConfig) -> None:
        inner = config.runtime_config
        if written.get("model") and inner.get("model") and written["model"] != inner["model"]:
            self.add(
                "warning",
                "two-places",
                ("runtime_config", "model"),
                "differs from `model` at the top level, which wins",
                "keep one of the two",
            )
        for key in ("auth_token_env", "auth_token_file"):
            if inner.get(key):
                path = ("runtime_config", key)
                self.add("warning", "deprecated", path, "is an old form", "use runtime_config.required_env")
        path = ("observability", "heartbeat_interval_seconds")
        asked, taken = self.reader.raw.get(path), config.observability.heartbeat_interval_seconds
        if asked is not None and plain_value(asked) not in {None, taken}:
            low, high = HEARTBEAT_RANGE
            remedy = f"write a number from {low:g} to {high:g}"
            self.add("warning", "clamped", path, f"is taken as {taken:g}", remedy, value=plain_value(asked))

    # --- findings ---------------------------------------------------------------------------------------------------------

    def is_reported_elsewhere(self, path: KeyPath) -> bool:
        return path[:1] in _TWO_PLACES and path[:1] not in self.from_environment and path[:1] not in self.reader.keys

    def written(self, path: KeyPath, value: object) -> object:
        return value if path in self.from_environment else super().written(path, value)

    def add(
        self,
        severity: Literal["error", "warning"],
        code: str,
        path: KeyPath,
        message: str,
        remedy: str,
        *,
        value: object = NOTHING,
        place: tuple[int, int] | None = None,
    ) -> None:
        source = self.from_environment.get(path)
        if source is None:
            super().add(severity, code, path, message, remedy, value=value, place=place)
        else:
            remedy = "correct or unset it" if severity == "error" else remedy
            self._append(severity, code, path, message, remedy, value, None, source)
