"""Push notification configurations: whose they are, how long they are kept, and what a restart makes of them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from a2a.auth.user import User
from a2a.server.context import ServerCallContext
from a2a.types import (
    AuthenticationInfo,
    ListTaskPushNotificationConfigsRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import TaskNotFoundError, UnsupportedOperationError

from molecule_runtime.a2a import push
from molecule_runtime.a2a.push import MAX_PER_TASK, PushNotifications
from molecule_runtime.a2a.push_targets import PushTargets
from molecule_runtime.a2a.statefile import open_state
from molecule_runtime.a2a.tasks import Tasks
from molecule_runtime.a2a.wire_errors import BadFieldError

from .receiver import receiving
from .support import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

WORKING, DONE = TaskState.TASK_STATE_WORKING, TaskState.TASK_STATE_COMPLETED
URL = "http://127.0.0.1:9/hook"
LOCAL = PushTargets.of(["127.0.0.1"])


class Named(User):
    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def user_name(self) -> str:
        return self._name


def caller(name: str = "ann", version: str = "1.0") -> ServerCallContext:
    return ServerCallContext(user=Named(name), state={"version": version})


def config(
    url: str = URL, *, config_id: str = "", token: str = "", authentication: AuthenticationInfo | None = None
) -> TaskPushNotificationConfig:
    return TaskPushNotificationConfig(url=url, id=config_id, token=token, authentication=authentication)


def task(state: TaskState, task_id: str = "t1") -> Task:
    return Task(id=task_id, context_id="c1", status=TaskStatus(state=state))


@asynccontextmanager
async def push_in(path: Path | None) -> AsyncGenerator[tuple[PushNotifications, Tasks]]:
    """Run the configurations and their deliveries over one state file."""
    async with open_state(path) as state:
        tasks = Tasks(state)
        await tasks.start()
        notifications = PushNotifications(state, LOCAL)
        await notifications.start()
        async with anyio.create_task_group() as group:
            group.start_soon(notifications.deliveries.run)
            yield notifications, tasks
            group.cancel_scope.cancel()


async def listed(notifications: PushNotifications, whose: ServerCallContext, **page: object) -> list[str]:
    request = ListTaskPushNotificationConfigsRequest(task_id="t1", **page)  # type: ignore[arg-type] # a page's fields
    return [one.id for one in (await notifications.list(request, whose)).configs]


async def test_a_configuration_gets_an_id_is_its_callers_own_and_goes_when_it_is_deleted() -> None:
    async with push_in(None) as (notifications, _):
        ann, ben = caller("ann"), caller("ben")
        given = await notifications.set("t1", config(token="tok"), ann)  # noqa: S106 - of a test
        named = await notifications.set("t1", config(config_id="mine"), ann)
        assert given.id
        assert given.task_id == "t1"
        assert named.id == "mine"
        assert await notifications.get("t1", given.id, ann) == given
        assert await listed(notifications, ann) == [given.id, "mine"]
        assert await listed(notifications, ben) == []
        with pytest.raises(TaskNotFoundError):
            await notifications.get("t1", given.id, ben)
        await notifications.delete("t1", given.id, ben)
        assert await listed(notifications, ann) == [given.id, "mine"]
        await notifications.delete("t1", given.id, ann)
        await notifications.delete("t1", given.id, ann)
        assert await listed(notifications, ann) == ["mine"]


async def test_in_0_3_a_task_has_one_configuration_without_a_name_which_needs_none_to_be_got() -> None:
    async with push_in(None) as (notifications, _):
        old = caller(version="0.3")
        first = await notifications.set("t1", config(), old)
        assert first.id == "t1"
        await notifications.set("t1", config(url=f"{URL}/2"), old)
        assert (await notifications.get("t1", "", old)).url == f"{URL}/2"
        assert await listed(notifications, old) == ["t1"]


async def test_configurations_are_listed_in_pages() -> None:
    async with push_in(None) as (notifications, _):
        ann = caller()
        for number in range(3):
            await notifications.set("t1", config(config_id=f"c{number}"), ann)
        first = await notifications.list(ListTaskPushNotificationConfigsRequest(task_id="t1", page_size=2), ann)
        assert [one.id for one in first.configs] == ["c0", "c1"]
        assert await listed(notifications, ann, page_size=2, page_token=first.next_page_token) == ["c2"]
        for page in ({"page_size": 101}, {"page_size": -1}, {"page_token": "x"}, {"page_token": "²"}):
            with pytest.raises(BadFieldError):
                await listed(notifications, ann, **page)


async def test_what_does_not_fit_is_refused_by_the_name_of_its_field() -> None:
    credentials = AuthenticationInfo(scheme="Bearer", credentials="a\nb")
    refused = [
        ("url", config(url="ftp://127.0.0.1/")),
        ("url", config(url="http://u:p@127.0.0.1/")),
        ("url", config(url="http://127.0.0.1/" + "x" * 2048)),
        ("url", config(url="http://10.0.0.1/")),
        ("token", config(token="a\r\nb")),  # noqa: S106 - of a test
        ("id", config(config_id="x" * 129)),
        ("authentication.scheme", config(authentication=AuthenticationInfo(scheme="Two words"))),
        ("authentication.credentials", config(authentication=credentials)),
    ]
    async with push_in(None) as (notifications, _):
        for field, one in refused:
            with pytest.raises(BadFieldError) as caught:
                await notifications.set("t1", one, caller())
            assert caught.value.field == field
        assert await listed(notifications, caller()) == []


async def test_a_task_has_a_bounded_number_and_all_tasks_together_too_where_ended_ones_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(push, "MAX_CONFIGS", MAX_PER_TASK + 1)
    async with push_in(None) as (notifications, tasks):
        ann = caller()
        for number in range(MAX_PER_TASK):
            await notifications.set("t1", config(config_id=f"c{number}"), ann)
        with pytest.raises(UnsupportedOperationError, match=str(MAX_PER_TASK)):
            await notifications.set("t1", config(config_id="more"), ann)
        await notifications.set("t1", config(config_id="c3", url=f"{URL}/new"), ann)
        await notifications.set("t2", config(config_id="other"), ann)
        with pytest.raises(UnsupportedOperationError, match="too many"):
            await notifications.set("t3", config(), ann)
        await tasks.save(task(WORKING), ann)
        await tasks.save(task(DONE), ann)
        await notifications.set("t3", config(), ann)
        assert "c0" not in await listed(notifications, ann)


async def test_who_asked_is_told_after_a_restart_of_a_task_that_the_restart_ended_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    ann = caller()
    async with receiving() as receiver:
        async with push_in(path) as (notifications, tasks):
            await tasks.save(task(WORKING), ann)
            await notifications.set("t1", config(url=receiver.url, config_id="mine"), ann)
        async with push_in(path) as (notifications, _):
            (hook,) = await receiver.received(1)
            assert hook.body["task"]["status"]["state"] == "TASK_STATE_FAILED"
            with anyio.fail_after(DEADLINE):
                await notifications.deliveries.finish()
            assert await listed(notifications, ann) == ["mine"]
        async with push_in(path) as (notifications, _):
            with anyio.fail_after(DEADLINE):
                await notifications.deliveries.finish()
        assert len(receiver.hooks) == 1


async def test_configurations_go_with_their_task(tmp_path: Path) -> None:
    ann = caller()
    async with push_in(tmp_path / "state.sqlite3") as (notifications, tasks):
        await tasks.save(task(WORKING), ann)
        await notifications.set("t1", config(), ann)
        await notifications._state.run(lambda db: db.execute("DELETE FROM tasks"))  # pyright: ignore[reportPrivateUsage] # as eviction does
        assert await listed(notifications, ann) == []
