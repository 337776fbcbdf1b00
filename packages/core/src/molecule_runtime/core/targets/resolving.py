"""Puts the settings together: which workspaces this process serves (contract `runtime.md` 3.1)."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.errors import ConfigurationError, TargetError
from molecule_runtime.core.identity import validate_platform_url
from molecule_runtime.core.targets.entries import EXAMPLE, Entry, parse_array, parse_single
from molecule_runtime.core.targets.file import read_file, workspaces_file
from molecule_runtime.core.targets.model import WorkspaceTarget
from molecule_runtime.core.tokens import TOKEN_FILE_NAME, TokenFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the settings say, for a person who looks at them.

    Attributes:
        targets: every workspace whose own settings can be used, each with its `source`.
        errors: every problem; with any, `resolve_targets` refuses all.
    """

    targets: list[WorkspaceTarget]
    errors: list[str]


def resolve_workspaces(environ: Mapping[str, str] | None = None) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Return the configured workspaces as `(id, token, platform_url)` and every error found.

    `MOLECULE_WORKSPACES` (a JSON array) wins outright when it is not blank. Otherwise one workspace comes from `WORKSPACE_ID` with
    its token from `MOLECULE_WORKSPACE_TOKEN`, else the file that `MOLECULE_WORKSPACE_TOKEN_FILE` names (no fall-through when that
    is set), else `<configs>/.auth_token`. The workspaces of the file that `MOLECULE_WORKSPACES_FILE` names come beside those, and
    alone where neither is set; an id that both give is an error. `platform_url` is `""` where an entry names none. Any error gives
    an empty list.
    """
    entries, errors = _entries(environ)
    if errors:
        return [], errors
    return [(entry.id, entry.token.read(), entry.platform_url) for entry in entries], []


def resolve_targets(environ: Mapping[str, str] | None = None) -> list[WorkspaceTarget]:
    """Return the configured workspaces as targets, each with a platform URL; none only where an empty file is the one setting.

    Raises:
        TargetError: with every problem of the settings; `PLATFORM_URL` is needed only where an entry has no URL of its own.
    """
    found = examine_targets(environ)
    if found.errors:
        raise TargetError(found.errors)
    return found.targets


def examine_targets(environ: Mapping[str, str] | None = None) -> Findings:
    """Return every target that can be used and every problem, where `resolve_targets` refuses all for one problem."""
    entries, errors = _entries(environ)
    complete = not errors
    default_url = env.PLATFORM_URL.get(environ)
    if default_url:
        try:
            default_url = validate_platform_url(default_url)
        except ConfigurationError as exc:
            errors.append(f"PLATFORM_URL: {exc}")
            default_url, complete = "", False
    if complete and not default_url:
        errors += [
            f"PLATFORM_URL is not set and workspace {entry.id!r} names no platform_url; set one of the two"
            for entry in entries
            if not entry.platform_url
        ]
    org_id = org_id_of(environ)
    targets = [
        WorkspaceTarget(
            id=entry.id,
            token=entry.token,
            platform_url=entry.platform_url or default_url,
            # The process environment describes at most one tenant (contract `runtime.md` 2.2), the one of PLATFORM_URL.
            org_id=org_id if entry.platform_url in {"", default_url} else None,
            source=entry.source,
        )
        for entry in entries
        if entry.platform_url or default_url
    ]
    return Findings(targets=targets, errors=errors)


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
        f"  For several set MOLECULE_WORKSPACES='{EXAMPLE}', or MOLECULE_WORKSPACES_FILE to a file (0600) of that. "
        "`molecule-mcp --help` explains each.",
    )
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 - this function is the command's help text


def missing_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Name the variables that a single-workspace process lacks; empty when a list of workspaces is set."""
    if env.MOLECULE_WORKSPACES.is_set(environ):
        return []
    if env.MOLECULE_WORKSPACES_FILE.is_set(environ) and not env.WORKSPACE_ID.is_set(environ):
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


def _entries(environ: Mapping[str, str] | None) -> tuple[list[Entry], list[str]]:
    environ = env.current() if environ is None else environ
    path = workspaces_file(environ)
    entries: list[Entry] = []
    errors: list[str] = []
    if env.MOLECULE_WORKSPACES.is_set(environ):
        name = env.MOLECULE_WORKSPACES.name
        entries, errors = parse_array(env.MOLECULE_WORKSPACES.get(environ), name=name)
    elif path is None or env.WORKSPACE_ID.is_set(environ):
        entries, errors = parse_single(environ)
    if path is not None:
        known = {entry.id: entry.source for entry in entries}
        more, problems = read_file(path)
        problems += [
            f"workspace id {entry.id!r} is given by {known[entry.id]} and by {entry.source}; remove one of the two"
            for entry in more
            if entry.id in known
        ]
        entries += [entry for entry in more if entry.id not in known]
        errors += problems
    return entries, errors
