"""Reads workspaces from JSON and from the variables of a single one; every problem is told, not only the first."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.errors import ConfigurationError, InvalidWorkspaceIdError
from molecule_runtime.core.identity import WorkspaceId, validate_platform_url, validate_workspace_id
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.core.secretfile import expand_home, read_secret, secret_problem
from molecule_runtime.core.tokens import TOKEN_FILE_NAME, StaticToken, TokenFile, TokenSource, workspace_token

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLE = '[{"id": "ws-1", "token": "...", "platform_url": "https://acme.example.com"}]'

_ENTRY_KEYS = ("id", "token", "token_file", "platform_url")
_OTHER_NAMES = {"url": "platform_url", "base_url": "platform_url", "workspace_id": "id", "auth_token": "token"}
"""Likely mistakes that are spelled too differently to be found by likeness. An ignored `url` would send the entry's token to the
tenant of PLATFORM_URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A parsed setting whose platform URL may still be missing.

    Attributes:
        source: where it stands, for messages.
    """

    id: WorkspaceId
    token: TokenSource
    platform_url: str
    source: str


def parse_array(
    text: str, *, name: str, base: Path | None = None, may_be_empty: bool = False
) -> tuple[list[Entry], list[str]]:
    """Return the entries of a JSON array that can be used, and every problem of the others.

    Args:
        text: the JSON.
        name: the variable or file that holds it, for messages.
        base: folder that relative `token_file` paths begin in; None for the folder of the process.
        may_be_empty: whether `[]` is a list of no workspaces rather than a mistake.
    """
    try:
        data: object = json.loads(text)
    except json.JSONDecodeError as exc:
        return [], [
            f"{name} is not valid JSON: {exc.msg} at line {exc.lineno} column {exc.colno}; it must look like {EXAMPLE}"
        ]
    except (RecursionError, ValueError):
        # json also refuses a number of thousands of digits, with a plain ValueError.
        return [], [f"{name} is nested too deeply or holds a huge number; it must look like {EXAMPLE}"]
    if not isinstance(data, list) or not (data or may_be_empty):
        return [], [f"{name} must be a {'' if may_be_empty else 'non-empty '}JSON array, such as {EXAMPLE}"]
    entries: list[Entry] = []
    errors: list[str] = []
    first_index: dict[str, int] = {}
    for index, item in enumerate(cast("list[object]", data)):
        if not isinstance(item, dict):
            errors.append(f"[{index}] must be an object with 'id' and 'token', not {type(item).__name__}")
            continue
        found = _parse_entry(
            index, cast("dict[str, Any]", item), first_index, errors, source=f"{name}[{index}]", base=base
        )
        if found is not None:
            entries.append(found)
    return entries, errors


def _parse_entry(
    index: int, item: dict[str, Any], first_index: dict[str, int], errors: list[str], *, source: str, base: Path | None
) -> Entry | None:
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
    token: TokenSource = StaticToken(values["token"], description=f"entry {source}")
    if values["token_file"]:
        path = (base or Path()) / expand_home(values["token_file"])
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
    return Entry(id=identifier, token=token, platform_url=url, source=source)


def parse_single(environ: Mapping[str, str]) -> tuple[list[Entry], list[str]]:
    """Return the workspace of `WORKSPACE_ID`, or every problem of the variables that describe it."""
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
    return [Entry(id=identifier, token=token, platform_url="", source=env.WORKSPACE_ID.name)], []


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
