"""The checks of executors and of imports: each passes what is good and fails what breaks it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import sys
import textwrap
import unittest
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.core.testing.host import sdk_installed

from .test_testing_kit import BROKEN, CHECKS, EXECUTOR_CHECKS, Executor, Good, adapter, always, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from molecule_runtime.core.adapter import BaseAdapter

needs_sdk = pytest.mark.skipif(not sdk_installed(), reason="a2a-sdk is not installed")


def message(text: str, context: Any) -> Any:
    return importlib.import_module("a2a.helpers").new_text_message(text, context_id=context.context_id)


def status(context: Any, state: str) -> Any:
    types = importlib.import_module("a2a.types")
    value = types.TaskStatus(state=getattr(types.TaskState, f"TASK_STATE_{state}"))
    return types.TaskStatusUpdateEvent(task_id=context.task_id, context_id=context.context_id, status=value)


def task(context: Any, state: str = "SUBMITTED") -> Any:
    types = importlib.import_module("a2a.types")
    value = types.TaskStatus(state=getattr(types.TaskState, f"TASK_STATE_{state}"))
    return types.Task(id=context.task_id, context_id=context.context_id, status=value)


def said(text: str) -> Callable[[Any], Any]:
    def make(context: Any) -> Any:
        return message(text, context)

    return make


def update(state: str) -> Callable[[Any], Any]:
    def make(context: Any) -> Any:
        return status(context, state)

    return make


def sends(*makers: Callable[[Any], Any]) -> type:
    """Return an executor that sends these events, whatever it is asked."""

    class Sends(Executor):
        async def execute(self, context: Any, queue: Any) -> None:
            for make in makers:
                await queue.enqueue_event(make(context))

    return Sends


def with_executor(executor_type: type) -> type[BaseAdapter]:
    return adapter(executor_type=executor_type)


class Deaf(Executor):
    """Swallows being cancelled, as `except BaseException` does."""

    async def execute(self, context: Any, queue: Any) -> None:
        answered = False
        while not answered:
            with contextlib.suppress(BaseException):
                await queue.enqueue_event(message("still here", context))
                answered = True


class Hopeful(Executor):
    """Answers a cancelled turn as if nothing had happened."""

    async def execute(self, context: Any, queue: Any) -> None:
        events: list[Any] = []
        try:
            await queue.enqueue_event(task(context))
        except asyncio.CancelledError:
            events.append(status(context, "COMPLETED"))
        # The queue is held by the host, so write past it as a broken executor could.
        for event in events:
            sender = asyncio.create_task(queue.enqueue_event(event))
            await asyncio.wait({sender}, timeout=0.01)


class Apologetic(Executor):
    """Turns every exception into a successful message."""

    async def execute(self, context: Any, queue: Any) -> None:
        try:
            text = context.get_user_input()
        except Exception as exc:
            types = importlib.import_module("a2a.types")
            text = f"Error: {exc}"
            part = types.Part(text=text)
            await queue.enqueue_event(types.Message(message_id="m", role=types.Role.ROLE_AGENT, parts=[part]))
            return
        await queue.enqueue_event(message(text, context))


BROKEN_EXECUTORS: list[tuple[str, type, str]] = [
    ("test_a_turn_ends_with_one_message_or_a_finished_task", sends(), "without an answer"),
    (
        "test_a_turn_ends_with_one_message_or_a_finished_task",
        sends(said("one"), said("two")),
        "whole answer",
    ),
    (
        "test_a_turn_ends_with_one_message_or_a_finished_task",
        sends(update("WORKING")),
        "first",
    ),
    ("test_a_turn_ends_with_one_message_or_a_finished_task", sends(task), "was left 'submitted'"),
    (
        "test_a_turn_ends_with_one_message_or_a_finished_task",
        sends(task, update("COMPLETED"), update("WORKING")),
        "was left 'working'",
    ),
    (
        "test_a_turn_ends_with_one_message_or_a_finished_task",
        sends(task, *[update("COMPLETED")] * 2),
        "follow the final state",
    ),
    ("test_a_cancelled_turn_ends", Deaf, "still running"),
    ("test_a_cancelled_turn_ends", Hopeful, "success"),
    ("test_a_cancelled_turn_ends", sends(), "no event"),
    ("test_an_exception_is_not_a_success", Apologetic, "success"),
]


@needs_sdk
@pytest.mark.parametrize("check", sorted(EXECUTOR_CHECKS))
@pytest.mark.parametrize(
    "executor",
    [Executor, sends(task, update("WORKING"), update("COMPLETED"))],
    ids=["message", "task"],
)
def test_a_good_executor_passes_the_check(check: str, executor: type, tmp_path: Path) -> None:
    if check == "test_an_exception_is_not_a_success" and executor is not Executor:
        with pytest.raises(unittest.SkipTest, match="does not read the message"):
            run(check, tmp_path, with_executor(executor))
    else:
        run(check, tmp_path, with_executor(executor))


@needs_sdk
@pytest.mark.parametrize(("check", "broken", "says"), BROKEN_EXECUTORS)
def test_a_broken_executor_fails_the_check(
    check: str, broken: type, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.core.testing.executor_checks.CANCEL_SECONDS", 0.2)
    with pytest.raises(AssertionError, match=says):
        run(check, tmp_path, with_executor(broken))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import os\nKEY = os.environ.get('HOME')", "environment variable HOME"),
        ("import os\nKEY = os.getenv('CONFORMANCE_ABSENT')", "environment variable CONFORMANCE_ABSENT"),
        ("import socket\nsocket.socket().close()", "socket.__new__"),
        ("import socket\nsocket.getaddrinfo('localhost', 80)", "socket.getaddrinfo"),
        ("import threading\nthreading.Thread(target=print).start()", "starts the thread"),
        ("from pathlib import Path\nPath('left-behind').write_text('x')", "left-behind"),
        ("import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])", "subprocess.Popen"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import no_such_module_anywhere", "no_such_module_anywhere"),
    ],
)
def test_an_adapter_whose_import_does_something_fails_the_check(
    source: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = in_module(source, tmp_path, monkeypatch)
    with pytest.raises(AssertionError, match=says):
        run("test_importing_it_has_no_side_effects", tmp_path, broken)


def test_an_adapter_that_is_slow_to_import_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import time\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass"
    broken = in_module(source, tmp_path, monkeypatch)
    with pytest.raises(AssertionError, match="at most 1x"):
        run("test_importing_it_is_quick", tmp_path, broken, max_import_ratio=1.0)


def test_what_a_third_party_does_with_files_and_threads_is_not_held_against_the_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "someone_elses.py").write_text("import os\nos.environ.get('HOME')\n")
    run("test_importing_it_has_no_side_effects", tmp_path, in_module("import someone_elses", tmp_path, monkeypatch))


def test_every_check_has_an_adapter_that_fails_it() -> None:
    tried = {check for check, _, _ in [*BROKEN, *BROKEN_EXECUTORS]}
    tried |= {"test_importing_it_has_no_side_effects", "test_importing_it_is_quick"}
    assert tried == set(CHECKS)


def in_module(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> type[BaseAdapter]:
    """Return an adapter that stands in a module of its own, which is not imported here."""
    modules = folder / "modules"
    modules.mkdir(exist_ok=True)
    file = modules / "adapter_under_test.py"
    file.write_text(textwrap.dedent(source))
    monkeypatch.setattr(sys, "path", [str(modules), *sys.path])
    monkeypatch.setattr(inspect, "getfile", always(str(file)))
    return type("Broken", (Good,), {"__module__": "adapter_under_test"})
