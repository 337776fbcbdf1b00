"""Gives the members of a team their seats: the same workspaces, tokens and folders at each start, never a second time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import httpx
from pydantic import ValidationError

from molecule_runtime.core.platform import wire
from molecule_runtime.core.secretfile import read_secret, write_private
from molecule_runtime.core.tokens import INBOUND_SECRET_FILE_NAME, TOKEN_FILE_NAME
from molecule_runtime.localplatform.errors import TeamError
from molecule_runtime.localplatform.team import seats
from molecule_runtime.localplatform.team.members import EXTERNAL
from molecule_runtime.localplatform.team.reports import Report, Tell
from molecule_runtime.localplatform.team.roster import Known, Roster
from molecule_runtime.localplatform.team.seats import Address, Seat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from pydantic import BaseModel

    from molecule_runtime.localplatform.team.members import Member, Team

FOLDER = "team"
"""In the data folder: the members' folders."""

_SECONDS = 30.0
_ORG_HEADER = "X-Molecule-Org-Id"
_PATIENT = frozenset({"paused", "hibernated"})

M = TypeVar("M", bound="BaseModel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """The platform, as whoever seats a team uses it.

    Attributes:
        data: the folder that remembers the team.
        admin_token: of the platform.
    """

    address: Address
    data: Path
    admin_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seated:
    """A team that has its seats.

    Attributes:
        seats: by name, parents first.
        resting: who is paused, and must not be started.
    """

    seats: Mapping[str, Seat]
    resting: frozenset[str] = frozenset()


async def take_seats(team: Team, office: Office, tell: Tell, *, prune: bool = False) -> Seated:
    """Find or create each member's workspace, bring it up to date, and write its folder.

    A workspace is found by the id that the data folder remembers, else by its name below the same parent.

    Args:
        team: the members.
        office: the platform.
        tell: learns what changed.
        prune: remove the workspaces of members that are not in the team any more; otherwise they are left alone.

    Raises:
        TeamError: the platform refused something, or a folder cannot be written.
    """
    roster = await anyio.to_thread.run_sync(Roster.read, office.data)
    async with _admin(office) as admin:
        seating = _Seating(admin, office, roster, tell)
        result = await seating.seat_all(team)
        await seating.look_after_the_others(team, prune=prune)
    return result


class _Seating:
    def __init__(self, admin: _Admin, office: Office, roster: Roster, tell: Tell) -> None:
        self._admin = admin
        self._office = office
        self._roster = roster
        self._tell = tell
        self._rows: dict[str, wire.Workspace] = {}
        self._seats: dict[str, Seat] = {}

    async def seat_all(self, team: Team) -> Seated:
        self._rows = {row.id: row for row in await self._admin.workspaces()}
        resting: set[str] = set()
        for member in team.members:
            row = self._find(member)
            token = ""
            if row is None:
                workspace_id, token = await self._create(member)
            else:
                workspace_id = row.id
                await self._update(member, row)
                if row.status in _PATIENT:
                    resting.add(member.name)
            await self._sit(member, workspace_id, token)
        return Seated(seats=self._seats, resting=frozenset(resting))

    async def look_after_the_others(self, team: Team, *, prune: bool) -> None:
        """Remove the workspaces of members that left the team, or say that they are left alone."""
        names = {member.name for member in team.members}
        seated = {seat.workspace_id for seat in self._seats.values()}
        gone = {name: known for name, known in self._roster.members.items() if name not in names}
        # From the bottom up: the platform does not remove a workspace with others below it unless it is told to remove those too.
        for name in sorted(gone, key=lambda name: self._depth(gone[name].workspace_id), reverse=True):
            workspace_id = gone[name].workspace_id
            if workspace_id not in self._rows or workspace_id in seated:
                await anyio.to_thread.run_sync(self._roster.forget, name)
                continue
            details = {"workspace_id": workspace_id}
            if not prune:
                text = "is not in the file any more; its workspace is left alone (--prune removes it)"
                self._tell(Report(kind="left", member=name, text=text, details=details))
            elif await self._admin.remove(workspace_id):
                self._rows.pop(workspace_id, None)
                await anyio.to_thread.run_sync(self._roster.forget, name)
                folder = self._folder(name)
                await anyio.to_thread.run_sync(_without_token, folder)
                text = f"is not in the file any more; its workspace is removed, its folder stays ({folder})"
                self._tell(Report(kind="pruned", member=name, text=text, details=details))
            else:
                text = "is not in the file any more; its workspace is left alone, since others that are not of this team stand below it"
                self._tell(Report(kind="left", member=name, text=text, details=details))

    def _find(self, member: Member) -> wire.Workspace | None:
        known = self._roster.members.get(member.name)
        if known is not None and (row := self._rows.get(known.workspace_id)) is not None:
            return row
        parent_id = self._parent_id(member)
        taken = {seat.workspace_id for seat in self._seats.values()}
        found = [
            row
            for row in self._rows.values()
            if row.name == member.name and row.parent_id == parent_id and row.id not in taken
        ]
        if len(found) > 1:
            ids = ", ".join(row.id for row in found)
            raise TeamError(
                f"{len(found)} workspaces with the same parent are named {member.name!r} ({ids}); rename or remove all but one with:"
                " molecule-local workspace rm ID"
            )
        return found[0] if found else None

    async def _create(self, member: Member) -> tuple[str, str]:
        """Return the id of a new workspace, and its token where the platform gave it one."""
        created = await self._admin.create(
            wire.CreateWorkspaceRequest(
                name=member.name,
                role=member.role or None,
                runtime=_runtime_of(member),
                external=member.external,
                parent_id=self._parent_id(member),
                delivery_mode=member.delivery,
            )
        )
        details = {"workspace_id": created.id}
        self._tell(
            Report(kind="created", member=member.name, text="is new: its workspace was created", details=details)
        )
        return created.id, created.connection.auth_token if created.connection is not None else ""

    async def _update(self, member: Member, row: wire.Workspace) -> None:
        wanted: dict[str, Any] = {
            "name": member.name,
            "parent_id": self._parent_id(member),
            "runtime": _runtime_of(member),
        }
        if member.role is not None:
            wanted["role"] = member.role or None
        changes = {key: value for key, value in wanted.items() if (getattr(row, key) or None) != value}
        if changes:
            await self._admin.change(row.id, changes)
            text = f"has changed: {', '.join(_CALLED[key] for key in changes)}"
            details = {"workspace_id": row.id, "changes": sorted(changes)}
            self._tell(Report(kind="updated", member=member.name, text=text, details=details))

    async def _sit(self, member: Member, workspace_id: str, token: str) -> None:
        """Give a member its folder and its token, and remember both."""
        known = self._roster.members.get(member.name)
        port = 0
        if not member.external:
            taken = {seat.port for seat in self._seats.values()}
            last = known.port if known is not None else 0
            port = await anyio.to_thread.run_sync(seats.choose_port, member, last, taken)
        seat = Seat(member=member, workspace_id=workspace_id, folder=self._folder(member.name), port=port)
        await anyio.to_thread.run_sync(seats.prepare_folder, seat)
        if not token and not await self._admin.accepts(workspace_id, await anyio.to_thread.run_sync(_token_in, seat)):
            token = await self._admin.mint(workspace_id)
        if token:
            await anyio.to_thread.run_sync(_store_token, seat, token)
        try:
            remembered = Known(workspace_id=workspace_id, port=port)
            await anyio.to_thread.run_sync(self._roster.remember, member.name, remembered)
        except OSError as exc:
            raise TeamError(f"{self._roster.path} cannot be written: {exc.strerror or exc}") from exc
        self._seats[member.name] = seat

    def _folder(self, name: str) -> Path:
        return self._office.data / FOLDER / seats.folder_name(name)

    def _parent_id(self, member: Member) -> str | None:
        return self._seats[member.parent].workspace_id if member.parent is not None else None

    def _depth(self, workspace_id: str) -> int:
        depth = 0
        row = self._rows.get(workspace_id)
        while row is not None and row.parent_id and depth < len(self._rows):
            row = self._rows.get(row.parent_id)
            depth += 1
        return depth


_CALLED = {"name": "name", "parent_id": "parent", "runtime": "runtime", "role": "role"}


class _Admin:
    """The admin's requests to the platform."""

    def __init__(self, http: httpx.AsyncClient, office: Office) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {office.admin_token}"}

    async def workspaces(self) -> list[wire.Workspace]:
        answer = await self._send("GET", "/workspaces")
        return [wire.Workspace.model_validate(row) for row in _read(answer)]

    async def create(self, wanted: wire.CreateWorkspaceRequest) -> wire.CreateWorkspaceResponse:
        answer = await self._send("POST", "/workspaces", json=wanted.body())
        return _shaped(wire.CreateWorkspaceResponse, answer)

    async def change(self, workspace_id: str, changes: Mapping[str, Any]) -> None:
        _read(await self._send("PATCH", f"/workspaces/{workspace_id}", json=changes))

    async def remove(self, workspace_id: str) -> bool:
        """Remove a workspace; False when others stand below it."""
        answer = await self._send("DELETE", f"/workspaces/{workspace_id}")
        if answer.status_code == HTTPStatus.CONFLICT:
            return False
        if answer.status_code != HTTPStatus.NOT_FOUND:
            _read(answer)
        return True

    async def accepts(self, workspace_id: str, token: str) -> bool:
        """Tell whether a token is one of this workspace."""
        if not token:
            return False
        bearer = {"Authorization": f"Bearer {token}"}
        answer = await self._send("GET", f"/workspaces/{workspace_id}/tokens", headers=bearer)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            return False
        _read(answer)
        return True

    async def mint(self, workspace_id: str) -> str:
        answer = await self._send("POST", f"/workspaces/{workspace_id}/tokens", json={})
        return _shaped(wire.TokenResponse, answer).auth_token

    async def _send(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        try:
            return await self._http.request(method, path, json=json, headers=headers or self._headers)
        except httpx.HTTPError as exc:
            raise TeamError(f"{method} {path}: the platform did not answer ({exc!r})") from exc


@asynccontextmanager
async def _admin(office: Office) -> AsyncGenerator[_Admin]:
    headers = {_ORG_HEADER: office.address.org_id} if office.address.org_id else {}
    async with httpx.AsyncClient(
        base_url=office.address.url, headers=headers, timeout=_SECONDS, trust_env=False
    ) as http:
        yield _Admin(http, office)


def _read(answer: httpx.Response) -> Any:
    try:
        body: Any = answer.json()
    except ValueError:
        body = {}
    if not answer.is_success:
        said = cast("dict[str, Any]", body).get("error", "") if isinstance(body, dict) else ""
        request = f"{answer.request.method} {answer.request.url.path}"
        raise TeamError(f"{request}: {answer.status_code} {said or answer.reason_phrase}")
    return body


def _shaped(model: type[M], answer: httpx.Response) -> M:
    body = _read(answer)
    try:
        return model.model_validate(body)
    except ValidationError:
        # Without the values: one of them may be a token.
        raise TeamError(f"{answer.request.method} {answer.request.url.path}: an answer of an unknown shape") from None


def _runtime_of(member: Member) -> str:
    return EXTERNAL if member.external else member.runtime


def _token_in(seat: Seat) -> str:
    try:
        return read_secret(seat.token_file)
    except (OSError, ValueError):
        return ""


def _store_token(seat: Seat, token: str) -> None:
    try:
        write_private(seat.token_file, token)
    except OSError as exc:
        raise TeamError(f"{seat.token_file} cannot be written: {exc.strerror or exc}") from exc


def _without_token(folder: Path) -> None:
    for path in (folder / TOKEN_FILE_NAME, folder / INBOUND_SECRET_FILE_NAME):
        path.unlink(missing_ok=True)
