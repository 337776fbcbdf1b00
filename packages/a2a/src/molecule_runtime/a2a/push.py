"""Push notification configurations: who is told of a task's changes, kept as long as the task is."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import TYPE_CHECKING

from a2a.server.owner_resolver import resolve_user_scope
from a2a.types import ListTaskPushNotificationConfigsResponse, Task, TaskPushNotificationConfig
from a2a.utils.errors import TaskNotFoundError, UnsupportedOperationError

from molecule_runtime.a2a.answering import V0_3, V1_0, VERSION
from molecule_runtime.a2a.errors import PushTargetError, StateFileError
from molecule_runtime.a2a.push_delivery import Deliveries, Target, TargetKey
from molecule_runtime.a2a.tasks import DEFAULT_PAGE, FINAL_STATES, MAX_PAGE
from molecule_runtime.a2a.wire_errors import BadFieldError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from a2a.server.context import ServerCallContext
    from a2a.server.events.event_queue import Event
    from a2a.types import ListTaskPushNotificationConfigsRequest

    from molecule_runtime.a2a.push_targets import PushTargets
    from molecule_runtime.a2a.statefile import StateFile

logger = logging.getLogger(__name__)

MAX_PER_TASK = 16
MAX_CONFIGS = 1024
"""Of all tasks together; those of tasks that have ended make room first."""

_MAX_ID = 128
_MAX_TOKEN = 4096
_MAX_CREDENTIALS = 8192

_SCHEME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_HEADER_TEXT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")

_UNBORN_SECONDS = 3600.0
"""After which a configuration whose task was never heard of may go: the agent answered with a Message."""

_TASK = "LEFT JOIN tasks t ON t.owner = p.owner AND t.id = p.task_id"


class PushNotifications:
    """Who is told of what, and the deliveries.

    The state file has every configuration; those of tasks that have not ended are also in memory, so that a change that nobody
    asked to be told of costs nothing.
    """

    def __init__(self, state: StateFile, targets: PushTargets) -> None:
        self._state = state
        self._targets = targets
        self._told_of: dict[str, dict[TargetKey, Target]] = {}
        self.deliveries = Deliveries(targets, self._told)

    async def start(self) -> None:
        """Read what an earlier process was asked, and tell how the tasks ended that it left; after `Tasks.start`.

        Raises:
            StateFileError: the file cannot be read.
        """

        def read(db: sqlite3.Connection) -> list[tuple[str, str, str, str, bytes, bytes | None]]:
            return db.execute(
                "SELECT p.owner, p.task_id, p.id, p.version, p.body, CASE WHEN t.ended IS NULL THEN NULL ELSE t.body END"  # noqa: S608 - constants only; every value is a parameter
                f" FROM push_configs p {_TASK} WHERE p.told = 0 ORDER BY p.number"
            ).fetchall()

        for owner, task_id, config_id, version, body, ended in await self._state.run(read):
            target = Target(
                key=TargetKey(owner, task_id, config_id),
                version=version,
                config=TaskPushNotificationConfig.FromString(body),
            )
            if ended is None:
                self._watch(target)
            else:
                task = Task.FromString(ended)
                self.deliveries.add(target, task, task)

    async def set(
        self, task_id: str, config: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Have a target told of a task; one of the same id is replaced.

        Raises:
            BadFieldError: the target may not be told, or a field does not fit.
            UnsupportedOperationError: there are too many already.
            StateFileError: it cannot be kept.
        """
        version = context.state.get(VERSION, V1_0)
        kept = TaskPushNotificationConfig()
        kept.CopyFrom(config)
        kept.task_id = task_id
        if not kept.id:
            # In 0.3 a task's one configuration needs no name (A2A 0.3.0, 7.5 and 7.6).
            kept.id = task_id if version == V0_3 else str(uuid.uuid4())
        _check(kept)
        try:
            await self._targets.addresses(kept.url)
        except PushTargetError as exc:
            raise BadFieldError("url", str(exc)) from None
        target = Target(key=TargetKey(resolve_user_scope(context), task_id, kept.id), version=version, config=kept)
        before = self._told_of.get(task_id, {}).get(target.key)
        # Before it is stored: the task may end meanwhile, and that is what it asks to be told.
        self._watch(target)
        try:
            ended, gone = await self._state.run(lambda db: _store(db, target))
        except BaseException:
            self._unwatch(target.key)
            if before is not None:
                self._watch(before)
            raise
        for key in gone:
            self._unwatch(key)
        if ended:
            self._unwatch(target.key)
        return kept

    async def get(self, task_id: str, config_id: str, context: ServerCallContext) -> TaskPushNotificationConfig:
        """Return a configuration; without an id the task's first (A2A 0.3.0, 7.6).

        Raises:
            TaskNotFoundError: there is none of this id.
        """
        found = [one for one in await self._all(task_id, context) if config_id in {"", one.id}]
        if not found:
            raise TaskNotFoundError(f"the task has no push notification configuration {config_id!r:.100}")
        return found[0]

    async def list(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        """Return a page of a task's configurations, the oldest first.

        Raises:
            BadFieldError: the page cannot be had.
        """
        size = params.page_size or DEFAULT_PAGE
        if not 1 <= size <= MAX_PAGE:
            raise BadFieldError("pageSize", f"is {params.page_size}; it must be 1 to {MAX_PAGE}")
        # A task has few of them, and one may be replaced but none moves: the place of the next is cursor enough.
        token = params.page_token or "0"
        if not (token.isdecimal() and token.isascii() and len(token) <= len(str(MAX_PER_TASK))):
            raise BadFieldError("pageToken", "is not one that this agent gave out")
        begin = int(token)
        found = await self._all(params.task_id, context)
        more = begin + size < len(found)
        return ListTaskPushNotificationConfigsResponse(
            configs=found[begin : begin + size], next_page_token=str(begin + size) if more else ""
        )

    async def delete(self, task_id: str, config_id: str, context: ServerCallContext) -> None:
        """Tell a target no more; one that is not there is no error (A2A 1.0, 3.1.10)."""
        key = TargetKey(resolve_user_scope(context), task_id, config_id)
        await self._state.run(
            lambda db: db.execute("DELETE FROM push_configs WHERE owner = ? AND task_id = ? AND id = ?", key)
        )
        self._unwatch(key)
        self.deliveries.drop(key)

    def notify(self, task: Task, event: Event) -> None:
        """Have everybody told who asked; returns at once."""
        targets = self._told_of.get(task.id)
        if targets is None:
            return
        for target in targets.values():
            self.deliveries.add(target, task, event)
        if task.status.state in FINAL_STATES:
            del self._told_of[task.id]

    async def _all(self, task_id: str, context: ServerCallContext) -> Sequence[TaskPushNotificationConfig]:
        whose = (resolve_user_scope(context), task_id)
        rows = await self._state.run(
            lambda db: db.execute(
                "SELECT body FROM push_configs WHERE owner = ? AND task_id = ? ORDER BY number", whose
            ).fetchall()
        )
        return [TaskPushNotificationConfig.FromString(body) for (body,) in rows]

    def _watch(self, target: Target) -> None:
        self._told_of.setdefault(target.key.task_id, {})[target.key] = target

    def _unwatch(self, key: TargetKey) -> None:
        targets = self._told_of.get(key.task_id)
        if targets is not None:
            targets.pop(key, None)
            if not targets:
                del self._told_of[key.task_id]

    def _told(self, key: TargetKey) -> None:
        """Note that a target knows the end, or a restart would tell it again."""

        def write(db: sqlite3.Connection) -> None:
            db.execute("UPDATE push_configs SET told = 1 WHERE owner = ? AND task_id = ? AND id = ?", key)

        try:
            self._state.begin(write).add_done_callback(lambda future: future.cancelled() or future.exception())
        except StateFileError as exc:
            logger.info("the end of task %s may be told again: %s", key.task_id, exc)


def _check(config: TaskPushNotificationConfig) -> None:
    """Check what becomes a header or a key."""
    if len(config.id) > _MAX_ID or not config.id.isprintable():
        raise BadFieldError("id", f"must have at most {_MAX_ID} printable characters")
    if config.token and (len(config.token) > _MAX_TOKEN or not _HEADER_TEXT.fullmatch(config.token)):
        raise BadFieldError(
            "token", f"must be at most {_MAX_TOKEN} characters of printable ASCII: it is sent as a header"
        )
    if not config.HasField("authentication"):
        return
    if not _SCHEME.fullmatch(config.authentication.scheme):
        raise BadFieldError(
            "authentication.scheme", "must be the name of an HTTP authentication scheme, such as Bearer"
        )
    credentials = config.authentication.credentials
    if credentials and (len(credentials) > _MAX_CREDENTIALS or not _HEADER_TEXT.fullmatch(credentials)):
        raise BadFieldError(
            "authentication.credentials",
            f"must be at most {_MAX_CREDENTIALS} characters of printable ASCII: they are sent as a header",
        )


def _store(db: sqlite3.Connection, target: Target) -> tuple[bool, list[TargetKey]]:
    """Store a configuration; return whether its task has ended, and which others made room for it."""
    key, now = target.key, time.time()
    (others,) = db.execute(
        "SELECT count(*) FROM push_configs WHERE owner = ? AND task_id = ? AND id <> ?", key
    ).fetchone()
    if others >= MAX_PER_TASK:
        raise UnsupportedOperationError(f"a task has at most {MAX_PER_TASK} push notification configurations")
    (count,) = db.execute("SELECT count(*) FROM push_configs").fetchone()
    gone: list[TargetKey] = []
    if count >= MAX_CONFIGS:
        old = db.execute(
            f"SELECT p.number, p.owner, p.task_id, p.id FROM push_configs p {_TASK}"  # noqa: S608 - constants only; every value is a parameter
            " WHERE t.ended IS NOT NULL OR (t.id IS NULL AND p.added < ?) ORDER BY p.number LIMIT 1",
            (now - _UNBORN_SECONDS,),
        ).fetchone()
        if old is None:
            raise UnsupportedOperationError("this agent has too many push notification configurations; try again later")
        db.execute("DELETE FROM push_configs WHERE number = ?", (old[0],))
        gone.append(TargetKey(*old[1:]))
    row = db.execute("SELECT ended IS NOT NULL FROM tasks WHERE owner = ? AND id = ?", key[:2]).fetchone()
    ended = row is not None and bool(row[0])
    db.execute(
        "INSERT INTO push_configs (owner, task_id, id, version, added, told, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (owner, task_id, id) DO UPDATE SET version = excluded.version, told = excluded.told, body = excluded.body",
        (*key, target.version, now, ended, target.config.SerializeToString()),
    )
    return ended, gone
