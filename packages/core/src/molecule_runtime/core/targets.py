"""Which workspaces this process serves: the one place that reads the workspace environment (contract `runtime.md` 3.1)."""

from __future__ import annotations

import difflib
import json
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.errors import ConfigurationError, InvalidWorkspaceIdError, TargetError
from molecule_runtime.core.identity import WorkspaceId, validate_platform_url, validate_workspace_id
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.core.secretfile import expand_home, read_secret, secret_problem
from molecule_runtime.core.tokens import TOKEN_FILE_NAME, StaticToken, TokenFile, TokenSource, workspace_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

_EXAMPLE = '[{"id": "ws-1", "token": "...", "platform_url": "https://acme.example.com"}]'
_ENTRY_KEYS = ("id", "token", "token_file", "platform_url")
_OTHER_NAMES = {"url": "platform_url", "base_url": "platform_url", "workspace_id": "id", "auth_token": "token"}
"""Likely mistakes that are spelled too differently to be found by likeness. An ignored `url` would send the entry's token to the
tenant of PLATFORM_URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceTarget:
    """One workspace of one tenant: who we are there, how we prove it, and where it lives.

    Attributes:
        id: the workspace.
        token: where its token comes from; read for each use.
        platform_url: base URL of its tenant, without a trailing slash.
        org_id: sent as `X-Molecule-Org-Id`; only known for the tenant that the process environment describes.
    """

    id: WorkspaceId
    token: TokenSource
    platform_url: str
    org_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A parsed setting whose platform URL may still be missing."""

    id: WorkspaceId
    token: TokenSource
    platform_url: str


def resolve_workspaces(environ: Mapping[str, str] | None = None) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Return the configured workspaces as `(id, token, platform_url)` and every error found.

    `MOLECULE_WORKSPACES` (a JSON array) wins outright when it is not blank. Otherwise one workspace comes from `WORKSPACE_ID` with
    its token from `MOLECULE_WORKSPACE_TOKEN`, else the file that `MOLECULE_WORKSPACE_TOKEN_FILE` names (no fall-through when that
    is set), else `<configs>/.auth_token`. `platform_url` is `""` where an entry names none. Any error gives an empty list.
    """
    entries, errors = _entries(environ)
    if errors:
        return [], errors
    return [(entry.id, entry.token.read(), entry.platform_url) for entry in entries], []


def resolve_targets(environ: Mapping[str, str] | None = None) -> list[WorkspaceTarget]:
    """Return the configured workspaces as targets, each with a platform URL.

    Raises:
        TargetError: with every problem of the settings; `PLATFORM_URL` is needed only where an entry has no URL of its own.
    """
    entries, errors = _entries(environ)
    default_url = env.PLATFORM_URL.get(environ)
    if default_url:
        try:
            default_url = validate_platform_url(default_url)
        except ConfigurationError as exc:
            errors.append(f"PLATFORM_URL: {exc}")
    if not errors and not default_url:
        errors += [
            f"PLATFORM_URL is not set and workspace {entry.id!r} names no platform_url; set one of the two"
            for entry in entries
            if not entry.platform_url
        ]
    if errors:
        raise TargetError(errors)
    org_id = org_id_of(environ)
    return [
        WorkspaceTarget(
            id=entry.id,
            token=entry.token,
            platform_url=entry.platform_url or default_url,
            # The process environment describes at most one tenant (contract `runtime.md` 2.2), the one of PLATFORM_URL.
            org_id=org_id if entry.platform_url in {"", default_url} else None,
        )
        for entry in entries
    ]


def resolve_target_for_adapter(environ: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """Return the first workspace as `{"id", "token", "platform_url"}`, or None when there is none or the settings are wrong."""
    workspaces, errors = resolve_workspaces(environ)
    if errors or not workspaces:
        return None
    identifier, token, platform_url = workspaces[0]
    return {"id": identifier, "token": token, "platform_url": platform_url}


def read_token_file(environ: Mapping[str, str] | None = None) -> str:
    """Return the token in `<configs>/.auth_token`, or `""` when the file is missing or unusable."""
    try:
        folder = configs_dir.resolve(environ)
    except ConfigurationError:
        return ""
    return TokenFile(folder / TOKEN_FILE_NAME).read()


def print_missing_env_help(missing: Sequence[str], have_token_file: bool) -> None:
    """Print to stderr, in three lines, what is missing and how to set it."""
    token = "" if have_token_file else ", and MOLECULE_WORKSPACE_TOKEN or MOLECULE_WORKSPACE_TOKEN_FILE"
    lines = (
        f"molecule-mcp: not configured. Currently missing: {', '.join(missing)}",
        f"  For one workspace set WORKSPACE_ID, PLATFORM_URL{token}.",
        f"  For several set MOLECULE_WORKSPACES='{_EXAMPLE}'. `molecule-mcp --help` explains each.",
    )
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 - this function is the command's help text


def missing_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Name the variables that a single-workspace process lacks; empty when `MOLECULE_WORKSPACES` is set."""
    if env.MOLECULE_WORKSPACES.is_set(environ):
        return []
    missing = [variable.name for variable in (env.WORKSPACE_ID, env.PLATFORM_URL) if not variable.is_set(environ)]
    has_token = env.MOLECULE_WORKSPACE_TOKEN.is_set(environ) or env.MOLECULE_WORKSPACE_TOKEN_FILE.is_set(environ)
    if not has_token and not read_token_file(environ):
        missing.append(env.MOLECULE_WORKSPACE_TOKEN.name)
    return missing


def org_id_of(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the organisation id of the environment, or None when it is unset or not 1 to 128 printable ASCII characters."""
    value = env.MOLECULE_ORG_ID.get(environ) or env.MOLECULE_ORGANIZATION_ID.get(environ)
    if not value:
        return None
    if len(value) > 128 or not all(33 <= ord(character) <= 126 for character in value):
        logger.warning("MOLECULE_ORG_ID is not 1 to 128 printable ASCII characters without spaces; it is not sent")
        return None
    return value


def _entries(environ: Mapping[str, str] | None) -> tuple[list[_Entry], list[str]]:
    environ = env.current() if environ is None else environ
    if env.MOLECULE_WORKSPACES.is_set(environ):
        return _parse_array(env.MOLECULE_WORKSPACES.get(environ))
    return _parse_single(environ)


def _parse_array(text: str) -> tuple[list[_Entry], list[str]]:
    try:
        data: object = json.loads(text)
    except json.JSONDecodeError as exc:
        return [], [
            f"MOLECULE_WORKSPACES is not valid JSON: {exc.msg} at line {exc.lineno} column {exc.colno}; it must look like {_EXAMPLE}"
        ]
    except (RecursionError, ValueError):
        # json also refuses a number of thousands of digits, with a plain ValueError.
        return [], [f"MOLECULE_WORKSPACES is nested too deeply or holds a huge number; it must look like {_EXAMPLE}"]
    if not isinstance(data, list) or not data:
        return [], [f"MOLECULE_WORKSPACES must be a non-empty JSON array, such as {_EXAMPLE}"]
    entries: list[_Entry] = []
    errors: list[str] = []
    first_index: dict[str, int] = {}
    for index, item in enumerate(cast("list[object]", data)):
        if not isinstance(item, dict):
            errors.append(f"[{index}] must be an object with 'id' and 'token', not {type(item).__name__}")
            continue
        found = _parse_entry(index, cast("dict[str, Any]", item), first_index, errors)
        if found is not None:
            entries.append(found)
    return ([] if errors else entries), errors


def _parse_entry(index: int, item: dict[str, Any], first_index: dict[str, int], errors: list[str]) -> _Entry | None:
    before = len(errors)
    for key in item:
        meant = _meant(key)
        if meant is not None and meant not in item:
            errors.append(f"[{index}] unknown key {key!r}; did you mean {meant!r}?")
    wrong = [key for key in _ENTRY_KEYS if isinstance(item.get(key), (bool, list, dict))]
    # The value may be a token in the wrong shape: its type says enough.
    errors += [f"[{index}] {key!r} must be a string, not {type(item[key]).__name__}" for key in wrong]
    if wrong:
        return None
    values = {key: _string(item.get(key)) for key in _ENTRY_KEYS}
    if not values["id"] or not (values["token"] or values["token_file"]):
        errors.append(f"[{index}] missing 'id' or 'token' (or 'token_file')")
    identifier: WorkspaceId | None = None
    if values["id"]:
        try:
            identifier = validate_workspace_id(values["id"])
        except InvalidWorkspaceIdError as exc:
            errors.append(f"[{index}] {exc}")
        else:
            first = first_index.setdefault(identifier, index)
            if first != index:
                errors.append(
                    f"[{index}] duplicate workspace id {identifier!r}, already given at [{first}]; remove one of the two"
                )
    if values["token"] and values["token_file"]:
        errors.append(f"[{index}] has both 'token' and 'token_file'; keep one")
    elif values["token"] and (problem := secret_problem(values["token"])):
        errors.append(f"[{index}] 'token' {problem}")
    token: TokenSource = StaticToken(values["token"], description="entry of MOLECULE_WORKSPACES")
    if values["token_file"]:
        path = expand_home(values["token_file"])
        token = TokenFile(path)
        if problem := _token_file_problem(path):
            errors.append(f"[{index}] token_file {problem}")
    url = values["platform_url"]
    if url:
        try:
            url = validate_platform_url(url)
        except ConfigurationError as exc:
            errors.append(f"[{index}] {exc}")
    if len(errors) > before or identifier is None:
        return None
    return _Entry(id=identifier, token=token, platform_url=url)


def _parse_single(environ: Mapping[str, str]) -> tuple[list[_Entry], list[str]]:
    errors: list[str] = []
    identifier: WorkspaceId | None = None
    raw = env.WORKSPACE_ID.get(environ)
    if not raw:
        errors.append(
            "WORKSPACE_ID (or MOLECULE_WORKSPACES) is not set; copy the id from the platform's Connect dialog"
        )
    else:
        try:
            identifier = validate_workspace_id(raw)
        except InvalidWorkspaceIdError as exc:
            errors.append(f"WORKSPACE_ID: {exc}")
    token = _single_token(environ, errors)
    if errors or identifier is None or token is None:
        return [], errors
    return [_Entry(id=identifier, token=token, platform_url="")], []


def _single_token(environ: Mapping[str, str], errors: list[str]) -> TokenSource | None:
    value = env.MOLECULE_WORKSPACE_TOKEN.get(environ)
    named = env.MOLECULE_WORKSPACE_TOKEN_FILE.get(environ)
    if value and (problem := secret_problem(value)):
        errors.append(f"MOLECULE_WORKSPACE_TOKEN {problem}")
    if named and not value:
        # A file that was named on purpose must work: falling through would hide the mistake (contract `runtime.md` 3.1, #2934).
        path = expand_home(named)
        if problem := _token_file_problem(path):
            errors.append(f"MOLECULE_WORKSPACE_TOKEN_FILE {problem}")
        return TokenFile(path)
    try:
        folder = configs_dir.resolve(environ)
    except ConfigurationError as exc:
        errors.append(str(exc))
        return None
    token = workspace_token(folder, environ)
    if not token.read():
        errors.append(
            f"no token: set MOLECULE_WORKSPACE_TOKEN or MOLECULE_WORKSPACE_TOKEN_FILE, or write it to {folder / TOKEN_FILE_NAME}"
        )
    return token


def _token_file_problem(path: Path) -> str | None:
    # A token that was pasted where its file's name belongs must not be shown either.
    shown = repr(redact_text(str(path)))
    try:
        read_secret(path)
    except FileNotFoundError:
        return f"{shown} not found"
    except PermissionError:
        return f"{shown}: permission denied; make it readable by this user"
    except OSError as exc:
        return f"{shown} cannot be read: {exc.strerror or type(exc).__name__}"
    except ValueError as exc:
        return f"{shown} {exc}"
    return None


def _meant(key: str) -> str | None:
    """Return the key that an unknown key probably stands for."""
    if key in _ENTRY_KEYS:
        return None
    close = difflib.get_close_matches(key.lower(), _ENTRY_KEYS, n=1, cutoff=0.75)
    return close[0] if close else _OTHER_NAMES.get(key.lower())


def _string(value: object) -> str:
    return "" if value is None else str(value).strip()
