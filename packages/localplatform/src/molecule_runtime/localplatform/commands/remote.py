"""The running platform, as the commands reach it: where it is, the admin token, requests, and workspaces by name."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode

from molecule_runtime.core import console, env
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.identity import validate_platform_url
from molecule_runtime.core.secretfile import read_secret
from molecule_runtime.localplatform.commands.options import data_folder
from molecule_runtime.localplatform.errors import CommandError
from molecule_runtime.localplatform.settings import DEFAULT_HOST, DEFAULT_PORT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import httpx

    Row = dict[str, Any]

ENDPOINT_FILE = "endpoint"
"""In the data folder while the platform runs: where it answers."""

ORG_FILE = "org_id"
"""Beside it, when the platform serves one organisation only: the id that requests must carry."""

_ADMIN_TOKEN_FILE = "admin_token"  # noqa: S105 - a file name
_HTTP_SECONDS = 10.0
_SHORTEST_PREFIX = 4
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A running platform and the admin token for it.

    Attributes:
        folder: the data folder.
        org_id: what `X-Molecule-Org-Id` must carry; `""` for nothing.
    """

    url: str
    folder: Path
    token: str = field(repr=False)
    org_id: str = ""

    @classmethod
    def of(cls, args: argparse.Namespace) -> Remote:
        """Return the platform that the arguments name.

        Raises:
            ConfigurationError: the URL cannot be used, or there is no admin token in the data folder.
        """
        folder = data_folder(args)
        url = validate_platform_url(args.url) if args.url else ""
        org_id = env.MOLECULE_ORG_ID.get()
        if not url:
            try:
                url = validate_platform_url(read_secret(folder / ENDPOINT_FILE))
                org_id = _word_in(folder / ORG_FILE) or org_id
            except (OSError, ValueError):
                url = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"
        return cls(url=url, folder=folder, token=_admin_token(folder), org_id=org_id)

    @property
    def is_encrypted(self) -> bool:
        """Whether there is a certificate to check: reading those to check it against takes longer than a request that needs none."""
        return self.url.startswith("https:")

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if self.org_id:
            headers[_ORG_HEADER] = self.org_id
        return headers

    def get(self, path: str, **query: object) -> Any:
        """Return what a route answers."""
        return self.call("GET", path, query=query)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, object] | None = None,
        conflict: str = "",
    ) -> Any:
        """Make a request and return the JSON of the answer; `conflict` says what to do about a 409.

        Raises:
            CommandError: nobody answers there, or the platform refused.
        """
        import httpx

        try:
            with httpx.Client(
                trust_env=False, verify=self.is_encrypted, timeout=_HTTP_SECONDS, headers=self.headers
            ) as client:
                response = client.request(
                    method,
                    self.url + path + _query(query),
                    content=dump(body),
                    headers=_JSON if body is not None else None,
                )
        except httpx.HTTPError as exc:
            raise self.unreachable(exc) from exc
        return self.read(response, conflict=conflict)

    def accepts(self, token: str, workspace_id: str) -> bool:
        """Tell whether a token is a live one of a workspace.

        Raises:
            CommandError: nobody answers there.
        """
        own = replace(self, token=token)
        try:
            own.get(path_of("workspaces", workspace_id, "tokens"))
        except CommandError as exc:
            if exc.status == 401:
                return False
            raise
        return True

    def read(self, response: httpx.Response, *, conflict: str = "") -> Any:
        """Return the JSON of an answer.

        Raises:
            CommandError: it is a refusal, or not of a platform.
        """
        status = response.status_code
        request = f"{response.request.method} {response.request.url.path}"
        try:
            data: object = response.json()
        except ValueError:
            if status == 404 and not response.content:
                reason = "it serves one organisation only; name it in MOLECULE_ORG_ID"
                raise CommandError(f"{request}: 404 from {self.url}: {reason}", status=status) from None
            raise CommandError(
                f"what answers at {self.url} is no molecule platform; check --url", status=status
            ) from None
        if response.is_success:
            return data
        details = cast("Row", data) if isinstance(data, dict) else {}
        said = console.one_line(str(details.get("error") or details.get("message") or response.reason_phrase))
        remedy = console.one_line(str(details.get("hint") or ""))
        if status == 401:
            remedy = "the admin token belongs to another data folder: name the right one with --data"
        elif status == 409 and conflict:
            remedy = conflict
        elif status in {429, 503} and isinstance(details.get("retry_after"), int):
            remedy = f"try again in {details['retry_after']} seconds"
        raise CommandError(f"{request}: {status} {said}{f'; {remedy}' if remedy else ''}", status=status)

    def unreachable(self, exc: Exception) -> CommandError:
        """Return the error for a platform that does not answer."""
        reason = str(exc) or type(exc).__name__
        return CommandError(f"no platform answers at {self.url} ({reason}); start one with: molecule-local up")

    def workspaces(self) -> list[Row]:
        """Return every workspace that was not removed."""
        return rows(self.get("/workspaces"))

    def find(self, text: str) -> Row:
        """Return the workspace that an id, a name, or the beginning of an id names.

        Raises:
            CommandError: none or several do.
        """
        return pick(
            self.workspaces(), text.strip(), what="workspace", listing="molecule-local workspace list", name="name"
        )


def pick(candidates: list[Row], text: str, *, what: str, listing: str, name: str | None = None) -> Row:
    """Return the row that a text means: by its whole id, by name or the beginning of the id, by name in other letters.

    Raises:
        CommandError: none or several fit; the message lists those that do.
    """

    def called(row: Row) -> str:
        return str(row.get(name) or "") if name else ""

    # Agents choose names, so a name must not win over the beginning of another's id.
    ways: tuple[Callable[[Row], bool], ...] = (
        lambda row: bool(row["id"] == text),
        lambda row: called(row) == text or (len(text) >= _SHORTEST_PREFIX and str(row["id"]).startswith(text)),
        lambda row: called(row).casefold() == text.casefold(),
    )
    for fits in ways if text else ():
        found = [row for row in candidates if fits(row)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(
                f"{row['id']} ({console.one_line(called(row))})".removesuffix(" ()") for row in found[:_SHOWN]
            )
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise CommandError(f"{text!r} means {len(found)} {what}s: {shown}{more}; give the id of one of them")
    names = [called(row) for row in candidates]
    near = [console.one_line(match) for match in difflib.get_close_matches(text, names, n=3)]
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"see: {listing}"
    raise CommandError(f"there is no {what} {text!r}; {hint}")


def rows(data: object) -> list[Row]:
    """Return a list of objects, or an empty one for anything else."""
    if not isinstance(data, list):
        return []
    return [cast("Row", item) for item in cast("list[object]", data) if isinstance(item, dict)]


def dump(body: Mapping[str, Any] | None) -> bytes | None:
    """Return JSON; in ASCII, since an argument that is not UTF-8 has characters that no UTF-8 can carry."""
    return None if body is None else json.dumps(body).encode("ascii")


def path_of(*parts: str) -> str:
    """Return a URL path of these parts, each of them escaped."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


_ORG_HEADER = "X-Molecule-Org-Id"
_JSON = {"Content-Type": "application/json"}


def _query(values: Mapping[str, object] | None) -> str:
    given = {key: value for key, value in (values or {}).items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _word_in(path: Path) -> str:
    try:
        return read_secret(path)
    except FileNotFoundError:
        return ""


def _admin_token(folder: Path) -> str:
    path = folder / _ADMIN_TOKEN_FILE
    try:
        return read_secret(path)
    except (OSError, ValueError) as exc:
        reason = "does not exist" if isinstance(exc, FileNotFoundError) else f"cannot be used ({exc})"
        raise ConfigurationError(
            f"admin token file {str(path)!r} {reason}; start the platform with 'molecule-local up', or name its folder with --data"
        ) from exc
