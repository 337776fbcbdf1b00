"""What may stand in the declaration of an MCP server, and how the management server gets its credentials.

A declaration is a file on disk, so it holds no secret: a variable that holds one is named under `env_vars` and its value stays in
the environment of the process (contract `consumers.md` 6.1). Organisation credentials go to the management server and to no other
(`runtime.md` 9.5, 20.1 item 9).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import env
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANAGEMENT_MCP_NAME = "molecule-platform"
REQUIRED_TOOL = "provision_workspace"
MANAGEMENT_PROVISION_TOOL_ID = f"mcp__{MANAGEMENT_MCP_NAME}__{REQUIRED_TOOL}"
MANAGEMENT_MCP_SPEC: Mapping[str, Any] = {
    "command": "molecule-platform-mcp",
    "env": {"MOLECULE_MCP_MODE": "management"},
}
"""The baked management server; contract `runtime.md` 9.6."""

MANAGEMENT_VARIABLES = (
    ("MOLECULE_API_URL", "MOLECULE_CP_URL"),
    ("MOLECULE_API_KEY", "MOLECULE_ADMIN_TOKEN"),
    ("MOLECULE_ORG_API_KEY", "ORG_API_KEY"),
    ("ORG_SLUG", "MOLECULE_ORG_ID"),
    ("AUDIT_ACTOR",),
    ("PLATFORM_URL",),
    ("WORKSPACE_ID",),
)
"""What the management server works with. Either name of a pair stands for the other; contract `runtime.md` 9.5."""

_SECRETS = frozenset({"MOLECULE_API_KEY", "MOLECULE_ADMIN_TOKEN", "MOLECULE_ORG_API_KEY", "ORG_API_KEY"})
_SECRET_NAME = re.compile(r"(?:^|_)(?:TOKEN|KEY|SECRET|PASSWORD|CREDENTIALS?|PAT)$", re.ASCII)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
# For the installer, not for the engine.
_NOT_RENDERED = frozenset({"audience", "privileged", "name"})


def checked_spec(
    name: str, spec: Mapping[str, Any], *, config_path: str, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the spec as it may be written to a file.

    Raises:
        ConfigurationError: a name or value that no engine can use, or a secret that would be copied.
    """
    environ = env.current() if environ is None else environ
    if not name.strip() or any(ord(character) < 32 for character in name):
        raise ConfigurationError(f"MCP server name {name!r} must be text without control characters")
    place = f"MCP server {name!r}"
    entry = {str(key): value for key, value in spec.items() if value is not None and key not in _NOT_RENDERED}
    if not any(isinstance(entry.get(key), str) and entry[key].strip() for key in ("command", "url")):
        raise ConfigurationError(f"{place}: needs a 'command' to start, or a 'url'")
    if "args" in entry:
        entry["args"] = _texts(f"{place}: args", entry["args"])
    variables = _variables(place, entry.pop("env", {}))
    references = _texts(f"{place}: env_vars", entry.pop("env_vars", []))
    granted = _granted(name, spec, config_path, environ)
    variables = {**granted.defaults, **variables, **granted.fixed}
    for variable, value in list(variables.items()):
        if value and environ.get(variable) == value and _SECRET_NAME.search(variable):
            del variables[variable]
            references.append(variable)
        elif _is_secret(variable, value) and not _REFERENCE.search(value):
            raise ConfigurationError(_secret(f"{place}: env.{variable}"))
    for key, value in entry.items():
        if any(kind != "base64_blob" for text in _strings(value) for kind in redact(text).counts):
            raise ConfigurationError(_secret(f"{place}: {key}"))
    references += [variable for variable in granted.secrets if variable not in variables]
    if variables:
        entry["env"] = variables
    if references:
        entry["env_vars"] = sorted(set(references))
    return entry


def management_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that the management server is started with, under both names of each pair; never written to a file."""
    environ = env.current() if environ is None else environ
    found: dict[str, str] = {}
    for names in MANAGEMENT_VARIABLES:
        values = {name: value for name in names if (value := environ.get(name, "").strip())}
        if values:
            fallback = next(iter(values.values()))
            found.update({name: values.get(name, fallback) for name in names})
    return found


def reference_environment(spec: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a declared server, with what `env_vars` and `${NAME}` refer to filled in."""
    environ = env.current() if environ is None else environ
    found = {str(name): environ[str(name)] for name in _list(spec.get("env_vars")) if str(name) in environ}
    declared: object = spec.get("env")
    if isinstance(declared, dict):
        for variable, value in cast("dict[object, object]", declared).items():
            found[str(variable)] = _REFERENCE.sub(lambda match: environ.get(match[1], ""), str(value))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grant:
    """What the audience of a spec adds to its environment."""

    defaults: dict[str, str] = field(default_factory=dict[str, str])
    """Under what the spec says itself."""
    fixed: dict[str, str] = field(default_factory=dict[str, str])
    """Over it."""
    secrets: tuple[str, ...] = ()
    """Names of variables that hold a secret."""


def _granted(name: str, spec: Mapping[str, Any], config_path: str, environ: Mapping[str, str]) -> _Grant:
    """Return what the spec's audience adds.

    `org` is honoured for the management server only, which has it by default. `self` lets a server act as this workspace through
    the token's file. An audience that is present and anything else, empty included, adds nothing (20.1 item 10).
    """
    audience: object = spec.get("audience", "org" if name == MANAGEMENT_MCP_NAME else None)
    if audience == "org" and name == MANAGEMENT_MCP_NAME:
        values = management_environment(environ)
        return _Grant(
            defaults={key: value for key, value in values.items() if key not in _SECRETS},
            secrets=tuple(key for key in values if key in _SECRETS and environ.get(key, "").strip()),
        )
    if audience == "self":
        urls = ("MOLECULE_API_URL", "MOLECULE_CP_URL", "PLATFORM_URL")
        url = next((environ[key] for key in urls if environ.get(key)), "")
        workspace = environ.get("WORKSPACE_ID", "")
        own = {"WORKSPACE_ID": workspace, "MOLECULE_WORKSPACE_ID": workspace, "MOLECULE_API_URL": url}
        return _Grant(
            defaults={key: value for key, value in own.items() if value},
            fixed={"MOLECULE_WORKSPACE_TOKEN_FILE": str(Path(config_path, ".auth_token")), "MOLECULE_MCP_MODE": "self"},
        )
    return _Grant()


def _is_secret(variable: str, value: str) -> bool:
    if redact(value).counts:
        return True
    # Beside its name a workspace's id looks like random text: capitals, small letters and digits in one run.
    return any(kind != "base64_blob" for kind in redact(f"{variable}={value}").counts)


def _secret(place: str) -> str:
    return (
        f"{place} holds a secret, which would be copied into a file; set it in the environment of the workspace and name the "
        "variable under 'env_vars' instead"
    )


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in cast("dict[object, object]", value).values():
            yield from _strings(item)
    else:
        for item in _list(value):
            yield from _strings(item)


def _variables(place: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{place}: env must be an object of names and texts, not {type(value).__name__}")
    variables: dict[str, str] = {}
    for key, item in cast("dict[object, object]", value).items():
        if not isinstance(key, str) or not _VARIABLE_NAME.fullmatch(key):
            raise ConfigurationError(f"{place}: env has {key!r}, which is not the name of a variable")
        if item is None:
            continue
        if not isinstance(item, (str, int, float)) or (isinstance(item, str) and "\x00" in item):
            raise ConfigurationError(f"{place}: env.{key} must be text, not {type(item).__name__}")
        variables[key] = str(item).lower() if isinstance(item, bool) else str(item)
    return variables


def _texts(place: str, value: object) -> list[str]:
    items = _list(value)
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, (str, int, float)) for item in items):
        raise ConfigurationError(f"{place} must be a list of texts")
    return [str(item) for item in items]


def _list(value: object) -> list[object]:
    return [*cast("list[object]", value)] if isinstance(value, (list, tuple)) else []
