"""Push notifications on real sockets: who is told what, in which order, and where none may go."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from a2a.server.context import ServerCallContext
from a2a.types import (
    Artifact,
    AuthenticationInfo,
    Part,
    Task,
    TaskArtifactUpdateEvent,
    TaskPushNotificationConfig,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)

from molecule_runtime.a2a import push_delivery
from molecule_runtime.a2a.errors import PushTargetError
from molecule_runtime.a2a.push import PushNotifications
from molecule_runtime.a2a.push_delivery import ATTEMPTS, MAX_WAITING, pause_before
from molecule_runtime.a2a.push_targets import PushTargets, is_public
from molecule_runtime.a2a.statefile import open_state
from molecule_runtime.core.errors import ConfigurationError

from .receiver import OK, receiving
from .support import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

SUBMITTED, WORKING, DONE = (
    TaskState.TASK_STATE_SUBMITTED,
    TaskState.TASK_STATE_WORKING,
    TaskState.TASK_STATE_COMPLETED,
)
NEW, OLD = ServerCallContext(state={"version": "1.0"}), ServerCallContext(state={"version": "0.3"})
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_time(_: int) -> float:
        return 0.0

    monkeypatch.setattr(push_delivery, "pause_before", no_time)


@asynccontextmanager
async def pushing(*allowed: str) -> AsyncGenerator[PushNotifications]:
    async with open_state(None) as state:
        notifications = PushNotifications(state, PushTargets.of(allowed))
        async with anyio.create_task_group() as group:
            group.start_soon(notifications.deliveries.run)
            yield notifications
            group.cancel_scope.cancel()


def new_task() -> Task:
    return Task(id="t1", context_id="c1", status=TaskStatus(state=SUBMITTED))


def begin(notifications: PushNotifications) -> Task:
    task = new_task()
    notifications.notify(task, new_task())
    return task


def move(notifications: PushNotifications, task: Task, state: TaskState) -> None:
    task.status.state = state
    event = TaskStatusUpdateEvent(task_id="t1", context_id="c1", status=task.status)
    notifications.notify(task, event)


def add(notifications: PushNotifications, task: Task, text: str) -> None:
    artifact = Artifact(artifact_id=text, parts=[Part(text=text)])
    task.artifacts.append(artifact)
    notifications.notify(task, TaskArtifactUpdateEvent(task_id="t1", context_id="c1", artifact=artifact))


async def finish(notifications: PushNotifications) -> None:
    with anyio.fail_after(DEADLINE):
        await notifications.deliveries.finish()


async def test_each_is_told_in_the_form_of_its_version_in_order_with_what_it_asked_to_be_shown() -> None:
    async with receiving() as new, receiving() as old, pushing("127.0.0.1") as notifications:
        shown = AuthenticationInfo(scheme="Bearer", credentials="its-own")
        await notifications.set(
            "t1", TaskPushNotificationConfig(url=f"{new.url}?x=1", token="tok", authentication=shown), NEW  # noqa: S106 - of a test
        )  # fmt: skip
        # In 0.3 a scheme comes without credentials where the agent is to have its own; we have none for anybody.
        scheme = AuthenticationInfo(scheme="Bearer")
        await notifications.set("t1", TaskPushNotificationConfig(url=old.url, authentication=scheme), OLD)
        task = begin(notifications)
        move(notifications, task, WORKING)
        add(notifications, task, "piece")
        move(notifications, task, DONE)
        move(notifications, task, WORKING)
        await finish(notifications)

        assert [next(iter(hook.body)) for hook in new.hooks] == [
            "task",
            "statusUpdate",
            "artifactUpdate",
            "statusUpdate",
        ]
        assert all(hook.path == "/hook?x=1" for hook in new.hooks)
        assert new.hooks[0].headers["x-a2a-notification-token"] == "tok"
        assert new.hooks[0].headers["authorization"] == "Bearer its-own"
        assert new.hooks[0].headers["content-type"] == "application/a2a+json"
        assert [hook.body["status"]["state"] for hook in old.hooks] == ["submitted", "working", "completed"]
        assert all(hook.body["kind"] == "task" and hook.body["id"] == "t1" for hook in old.hooks)
        assert old.hooks[-1].body["artifacts"][0]["artifactId"] == "piece"
        assert "authorization" not in old.hooks[0].headers
        assert "x-a2a-notification-token" not in old.hooks[0].headers
        assert old.hooks[0].headers["content-type"] == "application/json"


async def test_a_target_that_stumbles_is_told_again_and_nothing_overtakes() -> None:
    async with receiving() as receiver, pushing("127.0.0.1") as notifications:
        receiver.answers = [BUSY, b"", OK, BUSY]
        await notifications.set("t1", TaskPushNotificationConfig(url=receiver.url), NEW)
        task = begin(notifications)
        move(notifications, task, DONE)
        await finish(notifications)
        kinds = [next(iter(hook.body)) for hook in receiver.hooks]
        assert kinds == ["task", "task", "task", "statusUpdate", "statusUpdate"]


async def test_a_target_that_refuses_is_not_asked_again_and_one_that_never_answers_well_is_given_up() -> None:
    async with receiving() as refusing, receiving() as failing, pushing("127.0.0.1") as notifications:
        redirect = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {failing.url}\r\nContent-Length: 0\r\n\r\n".encode()
        refusing.answers = [redirect, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"]
        failing.answers = [BUSY] * ATTEMPTS
        await notifications.set("t1", TaskPushNotificationConfig(url=refusing.url, id="a"), NEW)
        await notifications.set("t1", TaskPushNotificationConfig(url=failing.url, id="b"), NEW)
        task = begin(notifications)
        move(notifications, task, WORKING)
        move(notifications, task, DONE)
        await finish(notifications)
        # It refused the first; the rest of it comes as the whole task.
        assert [next(iter(hook.body)) for hook in refusing.hooks] == ["task", "task"]
        assert [next(iter(hook.body)) for hook in failing.hooks] == ["task"] * ATTEMPTS + ["task"]
        assert failing.hooks[-1].body["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_a_target_that_hangs_holds_up_nobody_and_is_told_the_whole_task_when_it_is_too_far_behind() -> None:
    async with receiving() as slow, receiving() as quick, pushing("127.0.0.1") as notifications:
        slow.open.clear()
        await notifications.set("t1", TaskPushNotificationConfig(url=slow.url, id="slow"), NEW)
        await notifications.set("t2", TaskPushNotificationConfig(url=quick.url), NEW)
        task = begin(notifications)
        await slow.received(1)
        for number in range(MAX_WAITING + 5):
            add(notifications, task, f"piece {number}")
        other = Task(id="t2", context_id="c1", status=TaskStatus(state=DONE))
        notifications.notify(other, other)
        await quick.received(1)
        move(notifications, task, DONE)
        slow.open.set()
        await finish(notifications)
        assert len(slow.hooks) < 10
        whole = slow.hooks[1].body["task"]
        assert len(whole["artifacts"]) == MAX_WAITING + 5
        assert slow.hooks[-1].body["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_who_waits_for_all_to_be_told_waits_also_for_what_is_added_meanwhile_and_no_longer() -> None:
    async with receiving() as slow, receiving() as other, pushing("127.0.0.1") as notifications:
        slow.open.clear()
        other.open.clear()
        await notifications.set("t1", TaskPushNotificationConfig(url=slow.url), NEW)
        await notifications.set("t2", TaskPushNotificationConfig(url=other.url), NEW)
        begin(notifications)
        await slow.received(1)
        async with anyio.create_task_group() as group:
            group.start_soon(finish, notifications)
            await anyio.lowlevel.checkpoint()
            second = Task(id="t2", context_id="c1", status=TaskStatus(state=DONE))
            notifications.notify(second, second)
            await other.received(1)
            slow.open.set()
            other.open.set()
        assert len(slow.hooks) == len(other.hooks) == 1


async def test_a_target_that_was_deleted_is_told_no_more_of_what_waits() -> None:
    async with receiving() as receiver, pushing("127.0.0.1") as notifications:
        receiver.open.clear()
        await notifications.set("t1", TaskPushNotificationConfig(url=receiver.url, id="mine"), NEW)
        task = begin(notifications)
        await receiver.received(1)
        move(notifications, task, WORKING)
        await notifications.delete("t1", "mine", NEW)
        move(notifications, task, DONE)
        receiver.open.set()
        await finish(notifications)
        assert len(receiver.hooks) == 1


async def test_a_task_that_is_too_large_is_told_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_delivery, "MAX_BODY", 1000)
    async with receiving() as new, receiving() as old, pushing("127.0.0.1") as notifications:
        await notifications.set("t1", TaskPushNotificationConfig(url=new.url), NEW)
        await notifications.set("t1", TaskPushNotificationConfig(url=old.url), OLD)
        task = new_task()
        task.artifacts.append(Artifact(artifact_id="a", parts=[Part(text="x" * 2000)]))
        notifications.notify(task, task)
        await finish(notifications)
        assert new.hooks[0].body["statusUpdate"]["status"]["state"] == "TASK_STATE_SUBMITTED"
        assert old.hooks[0].body == {"id": "t1", "contextId": "c1", "kind": "task", "status": {"state": "submitted"}}


async def test_a_connection_goes_to_the_address_that_was_looked_at_and_each_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = ["127.0.0.1", "127.0.0.1", "169.254.169.254"]

    async def resolve(host: str, port: int, **_: object) -> list[Any]:
        assert host == "hooks.invalid"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    async with receiving() as receiver, pushing("127.0.0.0/8") as notifications:
        # No resolver knows the name, so only the address that was looked at can have been used.
        url = f"http://hooks.invalid:{receiver.port}/hook"
        await notifications.set("t1", TaskPushNotificationConfig(url=url), NEW)
        task = begin(notifications)
        await finish(notifications)
        assert receiver.hooks[0].headers["host"] == f"hooks.invalid:{receiver.port}"
        move(notifications, task, WORKING)
        await finish(notifications)
        assert answers == []
        assert len(receiver.hooks) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://100.100.100.200/",
        "http://168.63.129.16/",
        "http://169.254.169.254/latest/meta-data/",
        "http://224.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[64:ff9b:1::a00:1]/",
        "http://[2002:a00:1::]/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://nobody.invalid/",
        "file:///etc/passwd",
        "//example.com/",
        "http:///x",
        "http://a:b@example.com/",
        "http://exa mple.com/",
    ],
)
async def test_a_target_inside_or_of_no_use_is_refused(url: str) -> None:
    with pytest.raises(PushTargetError):
        await PushTargets().addresses(url)


async def test_an_address_of_this_machine_is_refused_even_where_it_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    def public(_: object) -> bool:
        return True

    # This machine has no public address to try it with.
    monkeypatch.setattr("molecule_runtime.a2a.push_targets.is_public", public)
    with pytest.raises(PushTargetError):
        await PushTargets().addresses("http://127.0.0.1/")
    assert (await PushTargets().addresses("http://8.8.8.8/"))[1] == ("8.8.8.8",)


async def test_a_public_address_and_what_the_operator_allows_are_targets() -> None:
    assert is_public(ipaddress.ip_address("8.8.8.8"))
    assert is_public(ipaddress.ip_address("2606:4700:4700::1111"))
    assert (await PushTargets().addresses("https://8.8.8.8/x"))[1] == ("8.8.8.8",)
    assert (await PushTargets.of(["10.0.0.0/8"]).addresses("http://10.1.2.3:81/"))[1] == ("10.1.2.3",)
    assert set((await PushTargets.of(["LocalHost"]).addresses("http://localhost/"))[1]) & {"127.0.0.1", "::1"}
    for entry in ("10.0.0.0/33", "", "two words", "http://x/"):
        with pytest.raises(ConfigurationError, match="push_targets"):
            PushTargets.of([entry])


def test_pauses_grow_are_bounded_and_are_not_the_same_for_all() -> None:
    drawn = [pause_before(2) for _ in range(20)]
    assert len(set(drawn)) > 1
    assert all(1.0 <= pause <= 2.0 for pause in drawn)
    assert pause_before(30) <= push_delivery.MAX_PAUSE
