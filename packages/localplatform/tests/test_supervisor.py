"""Supervision, with real processes: starts, restarts, giving up, orders and ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import yaml

from molecule_runtime.localplatform.events import EventBus
from molecule_runtime.localplatform.team import guard
from molecule_runtime.localplatform.team.logfile import LogFile
from molecule_runtime.localplatform.team.members import Member, RestartRule
from molecule_runtime.localplatform.team.seats import Address, Seat, choose_port, prepare_folder
from molecule_runtime.localplatform.team.supervisor import Pace, Setting, Supervisor
from molecule_runtime.localplatform.team.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Generator
    from pathlib import Path

    from molecule_runtime.localplatform.team.reports import Report

pytestmark = pytest.mark.anyio

SECONDS = 20.0
QUICK = Pace(first=0.02, cap=0.1, jitter=0.0, online=SECONDS, stop=SECONDS)
STAYS = ("sh", "-c", "echo here; exec sleep 1000")


@dataclass
class Scene:
    """A supervisor with its surroundings, as a test sees them."""

    supervisor: Supervisor
    bus: EventBus
    watch: Watch
    seats: dict[str, Seat]
    downs: list[tuple[str, str]]
    _reports: Any
    seen: list[Report] = field(default_factory=list["Report"])

    async def next(self, kind: str, member: str = "") -> Report:
        """Wait for a report; the ones before it are kept in `seen`."""
        with anyio.fail_after(SECONDS):
            while True:
                report: Report = await self._reports.receive()
                self.seen.append(report)
                if report.kind == kind and member in {"", report.member}:
                    return report

    def online(self, member: str) -> None:
        """Have the platform hear from a member."""
        self.bus.publish("WORKSPACE_ONLINE", self.seats[member].workspace_id, {})


def member(name: str, *command: str, **fields: Any) -> Member:
    return Member(name=name, command=command, runtime="sh", **fields)


def script(text: str) -> tuple[str, str, str]:
    return ("sh", "-c", text)


@asynccontextmanager
async def supervised(
    tmp_path: Path, *members: Member, pace: Pace = QUICK, resting: Collection[str] = ()
) -> AsyncGenerator[Scene]:
    seats = {
        one.name: Seat(
            member=one, workspace_id=f"id-{one.name}", folder=tmp_path / one.name, port=choose_port(one, 0, ())
        )
        for one in members
    }
    for seat in seats.values():
        prepare_folder(seat)
    send, receive = anyio.create_memory_object_stream[Any](1000)
    downs: list[tuple[str, str]] = []

    async def down(workspace_id: str, status: str) -> None:
        downs.append((workspace_id, status))

    bus = EventBus(lambda: 0.0)
    setting = Setting(address=Address(url="http://127.0.0.1:1"), tell=send.send_nowait, down=down, pace=pace)
    async with (
        send,
        receive,
        Watch.open() as watch,
        Supervisor.open(seats.values(), bus=bus, watch=watch, setting=setting, resting=resting) as supervisor,
    ):
        yield Scene(supervisor, bus, watch, seats, downs, receive)


@contextmanager
def handle_of(pid: int) -> Generator[int]:
    """Hold a process, so that its end can be waited for and its number not be taken by another."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def end_of(handle: int) -> None:
    with anyio.fail_after(SECONDS):
        await anyio.wait_readable(handle)


def has_ended(handle: int) -> bool:
    return bool(select.select([handle], [], [], 0)[0])


async def line_from(path: Path) -> str:
    """Read what somebody writes into a named pipe."""
    with anyio.fail_after(SECONDS):
        return (await anyio.to_thread.run_sync(path.read_text, abandon_on_cancel=True)).strip()


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


# --- starting and ending ----------------------------------------------------------------------------------------------


async def test_members_start_in_order_and_are_ready_when_all_are_online(tmp_path: Path) -> None:
    async with supervised(tmp_path, member("one", *STAYS), member("two", *STAYS)) as scene:
        started = [await scene.next("starting"), await scene.next("starting")]
        assert [report.member for report in started] == ["one", "two"]
        assert scene.supervisor.states == {"one": "starting", "two": "starting"}
        scene.online("one")
        online = await scene.next("online", "one")
        pid, port = started[0].details["pid"], scene.seats["one"].port
        assert online.line() == f"one is online (pid {pid}, port {port})"
        assert online.body() == {
            "event": "online",
            "member": "one",
            "text": online.line(),
            "workspace_id": "id-one",
            "pid": pid,
            "port": port,
        }
        scene.online("two")
        await scene.next("ready")
        assert scene.supervisor.states == {"one": "online", "two": "online"}
        assert scene.supervisor.knows("id-two")
        assert not scene.supervisor.knows("id-three")


async def test_the_end_takes_every_process_of_the_group_with_it(tmp_path: Path, pipe: Path) -> None:
    command = script(f"sleep 1000 & echo $! >{pipe}; wait")
    async with supervised(tmp_path, member("one", *command)) as scene:
        pid = (await scene.next("starting")).details["pid"]
        grandchild = int(await line_from(pipe))
        with handle_of(pid) as parent, handle_of(grandchild) as child:
            await scene.supervisor.stop("id-one")
            await scene.next("stopped")
            await end_of(parent)
            await end_of(child)


async def test_what_a_process_leaves_in_its_group_ends_with_it(tmp_path: Path, pipe: Path) -> None:
    command = script(f"sleep 1000 & echo $! >{pipe}; exit 0")
    async with supervised(tmp_path, member("one", *command)) as scene:
        with handle_of(int(await line_from(pipe))) as child:
            await scene.next("ended")
            await end_of(child)


async def test_a_process_that_ignores_sigterm_is_killed_after_a_while(tmp_path: Path, pipe: Path) -> None:
    command = script(f"trap '' TERM; echo ready >{pipe}; while true; do sleep 1000; done")
    async with supervised(tmp_path, member("one", *command), pace=replace(QUICK, stop=0.2)) as scene:
        pid = (await scene.next("starting")).details["pid"]
        await line_from(pipe)
        with handle_of(pid) as handle:
            await scene.supervisor.stop("id-one")
            await scene.next("stopped")
            await end_of(handle)


async def test_leaving_the_block_ends_everything(tmp_path: Path) -> None:
    async with supervised(tmp_path, member("one", *STAYS), member("two", *STAYS)) as scene:
        pids = [(await scene.next("starting")).details["pid"] for _ in range(2)]
        handles = [os.pidfd_open(pid) for pid in pids]
    assert [has_ended(handle) for handle in handles] == [True, True]
    for handle in handles:
        os.close(handle)


async def test_a_late_member_is_said_and_left_running(tmp_path: Path) -> None:
    async with supervised(tmp_path, member("one", *STAYS), pace=replace(QUICK, online=0.05)) as scene:
        late = await scene.next("late")
        assert str(scene.seats["one"].log) in late.text
        scene.online("one")
        await scene.next("online")


# --- restarting -------------------------------------------------------------------------------------------------------


async def test_a_member_that_keeps_failing_is_given_up_with_its_log_and_the_others_stay(tmp_path: Path) -> None:
    broken = member("broken", *script("echo no model key; exit 3"), restart=RestartRule(attempts=4))
    async with supervised(tmp_path, member("fine", *STAYS), broken) as scene:
        scene.online("fine")
        given_up = await scene.next("given_up", "broken")
        pauses = [report.details["pause"] for report in scene.seen if report.kind == "ended"]
        assert pauses == [0.02, 0.04, 0.08]
        assert (given_up.details["code"], given_up.details["tail"]) == (3, "no model key")
        assert "4 times in a row" in given_up.text
        assert "no model key" in given_up.text
        assert scene.supervisor.states["broken"] == "given_up"
        assert scene.supervisor.states["fine"] in {"starting", "online"}
        assert scene.downs == [*[("id-broken", "offline")] * 3, ("id-broken", "failed")]


def test_pauses_double_up_to_their_cap_and_differ_a_little() -> None:
    steady = Pace(jitter=0.0)
    assert [steady.pause(failures) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert steady.pause(10_000) == 60
    pauses = {Pace().pause(1) for _ in range(50)}
    assert len(pauses) > 1
    assert all(1 <= pause <= 1.5 for pause in pauses)


async def test_a_healthy_life_makes_failures_count_anew(tmp_path: Path, pipe: Path) -> None:
    # It ends when somebody writes into the pipe.
    one = member("one", *script(f"read -r line <{pipe}; exit 1"), restart=RestartRule(attempts=2))
    async with supervised(tmp_path, one, pace=replace(QUICK, healthy=0.0)) as scene:
        for _ in range(4):
            await scene.next("starting")
            scene.online("one")
            await scene.next("online")
            await anyio.to_thread.run_sync(pipe.write_text, "end\n")
            assert (await scene.next("ended")).details["pause"] == 0.02


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("always", 0, True),
        ("always", 1, True),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
        ("never", 0, False),
        ("never", 1, False),
    ],
)
async def test_the_rule_decides_whether_a_process_is_run_anew(
    policy: Any, code: int, again: bool, tmp_path: Path
) -> None:
    one = member("one", *script(f"exit {code}"), restart=RestartRule(policy=policy, attempts=3))
    async with supervised(tmp_path, one) as scene:
        await scene.next("starting")
        ended = await scene.next("ended")
        assert (ended.details["code"], ended.details["pause"] is not None) == (code, again)
        if again:
            await scene.next("starting")
        else:
            assert scene.supervisor.states == {"one": "ended"}
            assert scene.downs == [("id-one", "offline")]
            await scene.supervisor.start("id-one")
            await scene.next("starting")


async def test_a_killed_process_is_named_by_its_signal_and_comes_back(tmp_path: Path) -> None:
    async with supervised(tmp_path, member("one", *STAYS)) as scene:
        pid = (await scene.next("starting")).details["pid"]
        os.kill(pid, signal.SIGKILL)
        ended = await scene.next("ended")
        assert ended.details["code"] == -signal.SIGKILL
        assert "was ended by SIGKILL" in ended.text
        assert (await scene.next("starting")).details["pid"] != pid


async def test_a_program_that_cannot_be_run_is_given_up_with_the_reason(tmp_path: Path) -> None:
    one = member("one", "/no/such/program", restart=RestartRule(attempts=2))
    async with supervised(tmp_path, one) as scene:
        given_up = await scene.next("given_up")
        assert "/no/such/program" in given_up.details["tail"]


async def test_a_folder_that_vanished_is_a_start_that_failed(tmp_path: Path) -> None:
    async with supervised(tmp_path, member("one", *STAYS, restart=RestartRule(attempts=2)), resting={"one"}) as scene:
        scene.seats["one"].folder.rename(tmp_path / "elsewhere")
        await scene.supervisor.start("id-one")
        given_up = await scene.next("given_up")
        assert (given_up.details["code"], "could not be started" in given_up.text) == (None, True)


# --- ports ------------------------------------------------------------------------------------------------------------


async def test_a_port_that_was_taken_meanwhile_is_replaced_in_the_configuration(tmp_path: Path) -> None:
    async with supervised(tmp_path, member("one", *STAYS), resting={"one"}) as scene:
        with socket.socket() as other:
            other.bind(("127.0.0.1", scene.seats["one"].port))
            other.listen()
            await scene.supervisor.start("id-one")
            await scene.next("starting")
            scene.online("one")
            port = (await scene.next("online")).details["port"]
        assert port != scene.seats["one"].port
        config = yaml.safe_load((scene.seats["one"].folder / "config.yaml").read_text())
        assert config["a2a"]["port"] == port


async def test_a_port_of_the_seed_that_is_taken_is_said_and_tried_again(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        one = member("one", *STAYS, port=other.getsockname()[1], restart=RestartRule(attempts=10_000))
        async with supervised(tmp_path, one) as scene:
            ended = await scene.next("ended")
            assert f"port {one.port} is taken" in ended.text
            other.close()
            await scene.next("starting")


# --- orders -----------------------------------------------------------------------------------------------------------


async def test_stop_and_start_are_taken_at_any_time(tmp_path: Path) -> None:
    slow = replace(QUICK, first=1000.0, cap=1000.0)
    async with supervised(tmp_path, member("one", *STAYS), pace=slow) as scene:
        pid = (await scene.next("starting")).details["pid"]
        await scene.supervisor.stop("id-one")
        await scene.next("stopped")
        assert scene.supervisor.states == {"one": "stopped"}
        await scene.supervisor.stop("id-one")
        await scene.supervisor.start("id-one")
        again = (await scene.next("starting")).details["pid"]
        assert again != pid
        # It runs already.
        await scene.supervisor.start("id-one")
        # A start ends the pause before a restart.
        os.kill(again, signal.SIGKILL)
        await scene.next("ended")
        await scene.supervisor.start("id-one")
        last = (await scene.next("starting")).details["pid"]
        assert last != again
        # A stop ends it for good.
        os.kill(last, signal.SIGKILL)
        await scene.next("ended")
        await scene.supervisor.stop("id-one")
        await scene.supervisor.restart("id-one")
        await scene.next("starting")


async def test_restart_runs_a_process_anew(tmp_path: Path) -> None:
    async with supervised(tmp_path, member("one", *STAYS)) as scene:
        pid = (await scene.next("starting")).details["pid"]
        with handle_of(pid) as handle:
            await scene.supervisor.restart("id-one")
            assert (await scene.next("starting")).details["pid"] != pid
            assert has_ended(handle)
        assert [report.kind for report in scene.seen] == ["starting", "stopped", "starting"]
        # By order, so no failure, and its row is not for the supervisor to change.
        assert scene.downs == []


async def test_a_member_that_was_given_up_is_started_by_an_order(tmp_path: Path) -> None:
    one = member("one", *script("exit 1"), restart=RestartRule(attempts=2))
    async with supervised(tmp_path, one) as scene:
        await scene.next("given_up")
        await scene.supervisor.restart("id-one")
        # Counted from the beginning.
        await scene.next("ended")
        await scene.next("given_up")


async def test_a_resting_member_waits_for_its_order(tmp_path: Path) -> None:
    async with supervised(tmp_path, member("one", *STAYS), member("two", *STAYS), resting={"one"}) as scene:
        await scene.next("paused", "one")
        await scene.next("starting", "two")
        scene.online("two")
        await scene.next("ready")
        assert scene.supervisor.states == {"one": "stopped", "two": "online"}
        await scene.supervisor.start("id-one")
        await scene.next("starting", "one")


async def test_the_process_of_a_removed_workspace_ends(tmp_path: Path) -> None:
    async with supervised(tmp_path, member("one", *STAYS)) as scene:
        await scene.next("starting")
        scene.bus.publish("WORKSPACE_REMOVED", "id-one", {})
        await scene.next("stopped")


# --- what they write --------------------------------------------------------------------------------------------------


async def test_no_report_shows_a_value_of_the_environment(tmp_path: Path) -> None:
    value = "tell nobody"
    one = member(
        "one", *script('echo "key: $MY_KEY"; exit 1'), environ={"MY_KEY": value}, restart=RestartRule(attempts=1)
    )
    async with supervised(tmp_path, one) as scene:
        given_up = await scene.next("given_up")
        assert "key:" in given_up.text
        assert value not in str(given_up.body())


async def test_a_log_is_private_and_has_a_bound(tmp_path: Path) -> None:
    command = (
        sys.executable,
        "-c",
        "import sys\nfor _ in range(40): sys.stdout.write('x' * 99_999 + chr(10))\nprint('the end')",
    )
    async with supervised(tmp_path, member("one", *command, restart=RestartRule(policy="never"))) as scene:
        ended = await scene.next("ended")
        assert ended.details["tail"].endswith("the end")
        logs = sorted(scene.seats["one"].folder.glob("process.log*"))
        assert [log.name for log in logs] == ["process.log", "process.log.1"]
        assert {stat.S_IMODE(log.stat().st_mode) for log in logs} == {0o600}
        assert sum(log.stat().st_size for log in logs) <= 2 * 1024 * 1024
        assert logs[0].read_text().endswith("the end\n")


def test_a_chunk_larger_than_the_log_keeps_its_end(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", max_bytes=10)
    log.write(b"12345")
    log.write(b"abcdefghijklmnop")
    assert (tmp_path / "log").read_bytes() == b"ghijklmnop"
    assert (tmp_path / "log.1").read_bytes() == b"12345"


# --- the guard --------------------------------------------------------------------------------------------------------


def test_the_guard_ends_the_groups_that_are_left_when_the_pipe_closes() -> None:
    ready = "echo ready; while true; do sleep 1000; done"
    with (
        subprocess.Popen([sys.executable, "-I", "-S", str(guard.__file__)], stdin=subprocess.PIPE, env={}) as process,
        subprocess.Popen(["sh", "-c", ready], stdout=subprocess.PIPE, start_new_session=True) as gentle,
        subprocess.Popen(
            ["sh", "-c", f"trap '' TERM; {ready}"], stdout=subprocess.PIPE, start_new_session=True
        ) as stubborn,
        subprocess.Popen(["sh", "-c", ready], stdout=subprocess.PIPE, start_new_session=True) as forgotten,
    ):
        for child in (gentle, stubborn, forgotten):
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
        assert process.stdin is not None
        for signs in ("+", "-"):
            for child in (gentle, stubborn, forgotten) if signs == "+" else (forgotten,):
                process.stdin.write(f"{signs}{child.pid}\n".encode())
        process.stdin.close()
        assert process.wait(SECONDS) == 0
        assert gentle.wait(SECONDS) == -signal.SIGTERM
        assert stubborn.wait(SECONDS) == -signal.SIGKILL
        assert forgotten.poll() is None
        os.killpg(forgotten.pid, signal.SIGKILL)


async def test_a_guard_that_is_killed_is_replaced(tmp_path: Path) -> None:
    async with supervised(tmp_path, member("one", *STAYS)) as scene:
        await scene.next("starting")
        before = scene.watch.guard
        os.kill(before, signal.SIGKILL)
        with anyio.fail_after(SECONDS):
            after = await scene.watch.replaced(before)
        assert after != before
        with handle_of(after) as handle:
            assert not has_ended(handle)
