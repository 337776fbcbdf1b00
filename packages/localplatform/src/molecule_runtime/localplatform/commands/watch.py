"""Follows what happens on the platform, for `molecule-local logs`.

Events say that something happened; what it was is read from the activity list, behind the last row that was told. So a line is told once,
and none is missing, also where the platform restarts in between. Events that the platform stores are told when they arrive, and read from
its list after a gap; those that it does not store are told when they arrive.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.core import console
from molecule_runtime.core.identity import short_id
from molecule_runtime.localplatform.commands import journal
from molecule_runtime.localplatform.commands.frames import Frame
from molecule_runtime.localplatform.commands.remote import path_of, rows
from molecule_runtime.localplatform.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from molecule_runtime.localplatform.commands.frames import Link
    from molecule_runtime.localplatform.commands.journal import Line

    Row = dict[str, Any]

_PAGE = 500
"""Rows at a time, the most that the platform gives."""
_MAX_EVENTS = 100
_HELD_FRAMES = 10_000
_REMEMBERED = 5_000
_PAUSE_SECONDS = 0.1
"""Between two looks: a busy platform is not asked for every single event."""
_LOOK_SECONDS = 5.0
_SUMMARY_CHARS = 1000
"""Of a message, in the summary of its row."""
_SENT = "A2A_SENT"
_ANSWERED = "A2A_ANSWERED"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """Something that happened: when, for programs, and for people."""

    at: datetime
    data: Row
    lines: list[Line]


class _Once:
    """Lets one of two reports of the same thing through: the frame, or what a list says."""

    def __init__(self) -> None:
        self._frames: Counter[tuple[Any, ...]] = Counter()
        self._lists: Counter[tuple[Any, ...]] = Counter()

    def by_frame(self, *key: object) -> bool:
        """Tell whether a frame is the first report."""
        return self._admit(self._frames, self._lists, key)

    def by_list(self, *key: object) -> bool:
        """Tell whether an entry of a list is the first report."""
        return self._admit(self._lists, self._frames, key)

    @staticmethod
    def _admit(ours: Counter[tuple[Any, ...]], theirs: Counter[tuple[Any, ...]], key: tuple[Any, ...]) -> bool:
        if theirs[key] > 0:
            theirs[key] -= 1
            return False
        if len(ours) >= _REMEMBERED:
            ours.clear()
        ours[key] += 1
        return True


class Watch:
    """Tells what happens to the team, or to one workspace."""

    def __init__(self, workspace: str | None, *, lines: int, as_json: bool) -> None:
        self._workspace = workspace
        self._lines = lines
        self._json = as_json
        self._seq: int | None = None
        self._names: dict[str, str] = {}
        self._last_event = ""
        self._listed: OrderedDict[str, None] = OrderedDict()
        self._events_told = _Once()
        self._messages_told = _Once()

    async def tell_history(self, link: Link) -> None:
        """Tell what happened before, as many lines as were asked for."""
        told = self._told(await self._history(link))
        for text in told[len(told) - min(self._lines, len(told)) :]:
            console.say(text)

    def _tell(self, entries: Iterable[_Entry]) -> None:
        for text in self._told(entries):
            console.say(text)

    def _told(self, entries: Iterable[_Entry]) -> list[str]:
        """Return what is printed of entries, the oldest first."""
        if self._json:
            return [json.dumps(entry.data) for entry in sorted(entries, key=lambda entry: entry.at)]
        width, now = console.width(), datetime.now(UTC)
        # Each line at its own moment: while one agent answered, it may have asked another.
        lines = sorted((line for entry in entries for line in entry.lines), key=lambda line: line.at)
        return [line.render(width, now) for line in lines]

    async def follow(self, link: Link) -> None:
        """Tell what happened, or what was missed since the last connection, and then what happens."""
        frames: deque[Frame] = deque(maxlen=_HELD_FRAMES)
        news = anyio.Event()
        failure: CommandError | None = None

        async def read() -> None:
            async with contextlib.aclosing(link.frames()) as arriving:
                async for frame in arriving:
                    frames.append(frame)
                    news.set()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            try:
                if self._seq is None:
                    await self.tell_history(link)
                else:
                    self._tell(await self._missed(link))
                while True:
                    taken = [frames.popleft() for _ in range(len(frames))]
                    entries = await self._live(link, taken)
                    try:
                        await self._read_rows(link, entries)
                    finally:
                        # The platform may go away in between; what was read is told all the same.
                        self._tell(entries)
                    await anyio.sleep(_PAUSE_SECONDS)
                    with anyio.move_on_after(_LOOK_SECONDS):
                        await news.wait()
                    news = anyio.Event()
            except CommandError as exc:
                failure = exc
                group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _history(self, link: Link) -> list[_Entry]:
        wanted = max(1, self._lines)
        found = rows(await link.get("/admin/activity", limit=_PAGE if self._workspace else wanted))
        self._seq = int(found[-1]["seq"]) if found else 0
        if self._workspace is not None:
            # Its own rows, however many others came since, and among the latest those of messages that it sent.
            own = rows(await link.get("/admin/activity", workspace_id=self._workspace, limit=wanted))
            merged = {int(row["seq"]): row for row in [*found, *own] if int(row["seq"]) <= self._seq}
            found = [merged[seq] for seq in sorted(merged)]
        return [*await self._events(link), *[self._row(row) for row in await self._concerning(link, found)]]

    async def _read_rows(self, link: Link, entries: list[_Entry]) -> None:
        while page := rows(await link.get("/admin/activity", since_seq=self._seq, limit=_PAGE)):
            entries += [self._row(row) for row in await self._concerning(link, page)]
            self._seq = int(page[-1]["seq"])

    async def _missed(self, link: Link) -> list[_Entry]:
        """Return what happened since the last connection, but for the rows, which are read from where they ended."""
        newest = rows(await link.get("/admin/activity", limit=1))
        # Another database may be in the place of the one that was there before.
        self._seq = min(self._seq or 0, int(newest[-1]["seq"]) if newest else 0)
        return await self._events(link)

    async def _events(self, link: Link) -> list[_Entry]:
        """Return the stored events that were not told yet."""
        path = "/events" if self._workspace is None else path_of("events", self._workspace)
        frames: list[Frame] = []
        for row in reversed(rows(await link.get(path, limit=_MAX_EVENTS))):
            frame = Frame(
                event=str(row.get("event_type") or ""),
                workspace_id=str(row.get("workspace_id") or ""),
                timestamp=str(row.get("created_at") or ""),
                payload=row.get("payload") or {},
            )
            if row["id"] in self._listed or frame.timestamp < self._last_event:
                continue
            self._listed[row["id"]] = None
            if len(self._listed) > _REMEMBERED:
                self._listed.popitem(last=False)
            if self._events_told.by_list(frame.event, frame.workspace_id, frame.timestamp):
                frames.append(frame)
        return await self._entries(link, frames)

    async def _live(self, link: Link, frames: list[Frame]) -> list[_Entry]:
        """Return what frames that arrived have to tell."""
        fresh: list[Frame] = []
        for frame in frames:
            if frame.event == _SENT:
                payload = frame.payload
                text = str(payload.get("text") or "")[:_SUMMARY_CHARS]
                first = self._messages_told.by_frame(payload.get("source_id"), payload.get("target_id"), text)
            else:
                first = self._events_told.by_frame(frame.event, frame.workspace_id, frame.timestamp)
            if first:
                fresh.append(frame)
        return await self._entries(link, fresh)

    async def _entries(self, link: Link, frames: list[Frame]) -> list[_Entry]:
        concerned = [
            frame
            for frame in frames
            if self._workspace in {None, frame.workspace_id} or self._workspace == frame.payload.get("source_id")
        ]
        self._last_event = max([self._last_event, *(frame.timestamp for frame in concerned)])
        parties = [party for frame in concerned for party in (frame.workspace_id, *_parties(frame.payload))]
        await self._learn(link, parties)
        return [entry for frame in concerned if (entry := self._event(frame)) is not None]

    def _event(self, frame: Frame) -> _Entry | None:
        lines = list(journal.lines_of_event(frame, self._name))
        # For programs, rows tell everything about messages.
        if frame.event in journal.TOLD_BY_ROWS | {_SENT, _ANSWERED} if self._json else not lines:
            return None
        data = {"kind": "event", "workspace": self._name(frame.workspace_id), **frame.body()}
        return _Entry(at=journal.moment(frame.timestamp), data=data, lines=lines)

    def _row(self, row: Row) -> _Entry:
        sent = not self._messages_told.by_list(row.get("source_id"), row.get("target_id"), row.get("summary"))
        lines = list(journal.lines_of_row(row, self._name, sent=sent))
        data = {"kind": "activity", "workspace": self._name(row.get("workspace_id")), **row}
        return _Entry(at=journal.moment(row.get("created_at")), data=data, lines=lines)

    async def _concerning(self, link: Link, found: list[Row]) -> list[Row]:
        """Return the rows that are about the workspace, with the names of everybody in them known."""
        kept = [row for row in found if self._workspace is None or self._workspace in _parties(row)]
        await self._learn(link, [party for row in kept for party in _parties(row)])
        return kept

    async def _learn(self, link: Link, identifiers: list[str]) -> None:
        """Get the names of workspaces; one that cannot be got now is shown by the beginning of its id."""
        unknown = set(identifiers) - self._names.keys()
        if not unknown:
            return
        with contextlib.suppress(CommandError):
            everybody = rows(await link.get("/workspaces"))
            shared = Counter(str(row.get("name")) for row in everybody)
            for row in everybody:
                name = console.one_line(str(row.get("name") or ""))
                self._names[str(row["id"])] = name if shared[str(row.get("name"))] == 1 else f"{name}#{row['id'][:4]}"
        for identifier in unknown - self._names.keys():
            try:
                row = await link.get(path_of("workspaces", identifier), include_removed="true")
            except CommandError as exc:
                if exc.status is not None:
                    self._names[identifier] = short_id(identifier)
            else:
                self._names[identifier] = console.one_line(str(row.get("name") or "")) or short_id(identifier)

    def _name(self, identifier: object) -> str:
        return self._names.get(str(identifier), short_id(str(identifier or "?")))


def _parties(row: Mapping[str, Any]) -> list[str]:
    return [str(row[key]) for key in ("workspace_id", "source_id", "target_id", "recipient_id") if row.get(key)]
