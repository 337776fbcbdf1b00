"""`molecule-local up --seed`: the whole team from one file, with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from tests.support.warm import open_process

from molecule_runtime.core.envelope import Reply, message_send, read_answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import Process

pytestmark = pytest.mark.anyio

SECONDS = 60.0
COMMAND = [sys.executable, "-W", "error", "-m", "molecule_runtime.localplatform"]
README = Path(__file__).parents[2] / "packages" / "localplatform" / "README.md"
CALC = "workspaces: [{name: calc, role: Counts, runtime: calculator}]\n"
SHOUT = """
from molecule_runtime.a2a.executor import ReplyExecutor, Turn
from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter


class Adapter(BaseAdapter):
    name = staticmethod(lambda: "shout")
    display_name = staticmethod(lambda: "Shout")
    description = staticmethod(lambda: "Repeats every message in capitals.")

    async def setup(self, config: AdapterConfig) -> None: ...

    async def create_executor(self, config: AdapterConfig) -> ReplyExecutor:
        return ReplyExecutor(self.answer)

    async def answer(self, turn: Turn) -> str:
        return turn.text.upper()
"""


@dataclass
class Up:
    """A `molecule-local up` that runs."""

    process: Process
    data: Path
    lines: BufferedByteReceiveStream
    http: httpx.AsyncClient
    seen: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def event(self, *kinds: str, member: str = "") -> dict[str, Any]:
        """Read up to an event of one of these kinds."""
        with anyio.fail_after(SECONDS):
            while True:
                line = await self.lines.receive_until(b"\n", 1_000_000)
                found: dict[str, Any] = json.loads(line)
                self.seen.append(found)
                if found.get("event") in kinds and member in {"", found.get("member")}:
                    return found

    @property
    def ids(self) -> dict[str, str]:
        team = next(event for event in self.seen if event.get("event") == "team")
        return {name: member["workspace_id"] for name, member in team["members"].items()}

    @property
    def pids(self) -> list[int]:
        return [event["pid"] for event in self.seen if event.get("event") == "starting"]

    async def ask(self, name: str, text: str) -> str:
        answer = await self.http.post(f"/workspaces/{self.ids[name]}/a2a", json=message_send(text))
        reply = read_answer(answer.json())
        assert isinstance(reply, Reply), reply
        return reply.text

    async def status(self, name: str) -> str:
        return str((await self.http.get(f"/workspaces/{self.ids[name]}")).json()["status"])

    async def order(self, name: str, what: str) -> int:
        return (await self.http.post(f"/workspaces/{self.ids[name]}/{what}")).status_code

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        with anyio.fail_after(SECONDS):
            return await self.process.wait()


def command(folder: Path, *arguments: str) -> list[str]:
    places = ("--port", "0", "--data", str(folder / "data"), "--seed", str(folder / "team.yaml"))
    return ["up", *places, *arguments]


@asynccontextmanager
async def up(folder: Path, seed: str, *arguments: str, cold: bool = False, **environ: str) -> AsyncGenerator[Up]:
    """Run `molecule-local up --seed`; the block begins when the platform has said that it answers.

    Args:
        folder: where everything is.
        seed: what is written there as the team.
        arguments: further ones.
        cold: as a user starts it, instead of from a process that has imported it already. The hosts always start so.
        environ: variables beside those that everything needs.
    """
    data = folder / "data"
    (folder / "team.yaml").write_text(seed)
    complete = {"PATH": os.environ["PATH"], "HOME": str(folder), **environ}
    words = command(folder, "--json", *arguments)
    async with AsyncExitStack() as stack:
        if cold:
            process = await anyio.open_process([*COMMAND, *words], stdin=subprocess.DEVNULL, stderr=None, env=complete)
        else:
            process = await open_process(
                "molecule-local", words, environ=complete, stdin=subprocess.DEVNULL, stderr=sys.__stderr__
            )
        await stack.enter_async_context(process)
        stack.callback(lambda: process.kill() if process.returncode is None else None)
        assert process.stdout is not None
        lines = BufferedByteReceiveStream(process.stdout)
        with anyio.fail_after(SECONDS):
            started = json.loads(await lines.receive_until(b"\n", 10_000))
        headers = {"Authorization": f"Bearer {(data / 'admin_token').read_text()}"}
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=started["url"], headers=headers, timeout=30, trust_env=False)
        )
        yield Up(process, data, lines, http)


class Handles:
    """Processes that a test waits for the end of. Held, so that their numbers cannot go to others."""

    def __init__(self, pids: list[int]) -> None:
        self._handles = [os.pidfd_open(pid) for pid in pids]

    async def all_end(self) -> None:
        with anyio.fail_after(SECONDS):
            for handle in self._handles:
                await anyio.wait_readable(handle)
                os.close(handle)


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose command line or environment names a folder."""
    found: list[int] = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                parts = [(process / part).read_bytes() for part in ("cmdline", "environ")]
            except OSError:
                continue
            if any(str(folder).encode() in part for part in parts):
                found.append(int(process.name))
    return found


async def nothing_is_left(folder: Path) -> None:
    """Wait until no process of a folder is left: what was killed with its group may end a moment later than its leader."""
    for pid in processes_of(folder):
        with contextlib.suppress(ProcessLookupError):
            await Handles([pid]).all_end()
    assert not processes_of(folder)


def everything_readable(folder: Path, pids: list[int]) -> bytes:
    """Return what others may see: the arguments and environments of processes, and what logs hold."""
    parts = [path.read_bytes() for path in folder.rglob("*.log*")]
    for pid in pids:
        parts += [Path("/proc", str(pid), part).read_bytes() for part in ("cmdline", "environ")]
    return b"\n".join(parts)


async def test_the_team_of_the_readme_comes_online_and_works_together(tmp_path: Path) -> None:
    (seed,) = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "planets.csv").write_text("planet,gravity_m_s2\nMars,3.7\nJupiter,23.1\nVenus,8.9\n")
    (tmp_path / "shout.py").write_text(SHOUT)
    key = "the key of shout, and of nobody else"
    async with up(tmp_path, seed, cold=True, SHOUT_KEY=key) as team:
        ready = await team.event("ready")
        assert ready["members"] == 4
        online = {event["member"]: event for event in team.seen if event["event"] == "online"}
        assert set(online) == {"lead", "calc", "atlas", "shout"}
        assert online["calc"]["text"] == f"calc is online (pid {online['calc']['pid']}, port {online['calc']['port']})"
        # The lead asks the others through the platform, each what fits it.
        answer = await team.ask("lead", "Which planet has the highest gravity? What is 142984 / 12756?")
        assert "Jupiter" in answer
        assert "11.2" in answer
        assert await team.ask("shout", "hello") == "HELLO"
        rows = {row["name"]: row for row in (await team.http.get("/workspaces")).json()}
        assert {row["parent_id"] for row in rows.values()} == {None, team.ids["lead"]}
        assert (rows["scout"]["status"], rows["scout"]["delivery_mode"]) == ("awaiting_agent", "poll")
        # Tokens are in files of 0600 only, a value of `env` in the one process that it is for.
        pids = {name: event["pid"] for name, event in online.items()}
        others = everything_readable(tmp_path, [team.process.pid, *pids.values()])
        tokens = [path.read_bytes() for path in team.data.rglob(".auth_token")]
        assert len(tokens) == 5
        assert not [token for token in [*tokens, (team.data / "admin_token").read_bytes()] if token in others]
        rest = [pid for name, pid in pids.items() if name != "shout"]
        assert key.encode() not in everything_readable(tmp_path, rest) + json.dumps(team.seen).encode()
        assert await team.stop() == 0
    await nothing_is_left(tmp_path)


async def test_members_that_cannot_start_are_given_up_with_the_reason_and_the_others_work_on(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import sys\nprint('the model refused', file=sys.stderr)\nraise SystemExit(7)\n"
    )
    async with AsyncExitStack() as stack:
        other = stack.enter_context(socket.socket())
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        broken = "{name: broken, adapter: ./broken.py, restart: {attempts: 2}}"
        taken = f"{{name: taken, runtime: calculator, port: {port}, restart: {{attempts: 1}}}}"
        team = await stack.enter_async_context(up(tmp_path, CALC.replace("]", f", {broken}, {taken}]")))
        given_up = {event["member"]: event for event in [await team.event("given_up"), await team.event("given_up")]}
        assert given_up["broken"]["code"] == 1
        assert "the model refused" in given_up["broken"]["tail"]
        assert f"port {port} is taken" in given_up["taken"]["text"]
        assert [event["member"] for event in team.seen if event.get("event") == "ended"] == ["broken"]
        if not [event for event in team.seen if event.get("event") == "online"]:
            await team.event("online", member="calc")
        assert "42" in await team.ask("calc", "What is 6 * 7?")
        assert await team.status("broken") == "failed"
        # Mended, it is started by an order.
        (tmp_path / "broken.py").write_text(SHOUT)
        assert await team.order("broken", "restart") == 200
        await team.event("online", member="broken")
        assert await team.ask("broken", "hello") == "HELLO"


async def test_a_host_that_is_killed_comes_back_and_a_second_start_finds_the_same_workspaces(tmp_path: Path) -> None:
    async with up(tmp_path, CALC) as team:
        before = await team.event("online")
        # What an agent leaves in its folder is not imported in the place of a module.
        (team.data / "team" / "calc" / "json.py").write_text("raise SystemExit(9)\n")
        os.kill(before["pid"], signal.SIGKILL)
        assert (await team.event("ended"))["code"] == -signal.SIGKILL
        first = await team.event("online")
        assert first["pid"] != before["pid"]
        assert first["port"] == before["port"]
        assert "42" in await team.ask("calc", "What is 6 * 7?")
        ids, token = team.ids, (team.data / "team" / "calc" / ".auth_token").read_bytes()
        handles = Handles([first["pid"]])
        assert await team.stop() == 0
        await handles.all_end()
    await nothing_is_left(tmp_path)
    async with up(tmp_path, CALC.replace("Counts", "Calculates")) as team:
        second = await team.event("online")
        assert team.ids == ids
        assert [event["event"] for event in team.seen[:2]] == ["updated", "team"]
        assert second["port"] == first["port"]
        assert (team.data / "team" / "calc" / ".auth_token").read_bytes() == token
        (row,) = (await team.http.get("/workspaces")).json()
        assert row["role"] == "Calculates"
        history = await team.http.get(f"/workspaces/{ids['calc']}/activity")
        assert "6 * 7" in history.text


async def test_nothing_is_left_when_molecule_local_is_killed(tmp_path: Path) -> None:
    # One that would not go by itself: it ignores SIGTERM and its parent's end.
    stubborn = "trap '' TERM HUP; while true; do sleep 1000; done"
    seed = CALC.replace("]", f', {{name: stubborn, command: [sh, -c, "{stubborn}"]}}]')
    async with up(tmp_path, seed) as team:
        await team.event("online", member="calc")
        handles = Handles(team.pids)
        assert await team.stop(signal.SIGKILL) == -signal.SIGKILL
        await handles.all_end()
    await nothing_is_left(tmp_path)
    # The row says online, since nobody could change it. The next start does, before any process says otherwise.
    async with up(tmp_path, "workspaces: [{name: calc, command: [sleep, '1000']}]\n") as team:
        await team.event("starting")
        assert await team.status("calc") == "offline"
    await nothing_is_left(tmp_path)
    # Everything else is as it was.
    async with up(tmp_path, CALC) as team:
        await team.event("online", member="calc")
        assert "42" in await team.ask("calc", "What is 6 * 7?")
        assert [event["member"] for event in team.seen if event.get("event") == "left"] == ["stubborn"]


async def test_the_platform_starts_stops_and_rests_the_processes_of_members(tmp_path: Path) -> None:
    async with up(tmp_path, CALC) as team:
        first = await team.event("online")
        handles = Handles([first["pid"]])
        assert await team.order("calc", "pause") == 200
        await team.event("stopped")
        await handles.all_end()
        assert await team.status("calc") == "paused"
        assert await team.stop() == 0
    async with up(tmp_path, CALC) as team:
        await team.event("paused")
        assert await team.status("calc") == "paused"
        assert await team.order("calc", "resume") == 200
        second = await team.event("online")
        assert await team.status("calc") == "online"
        assert await team.order("calc", "restart") == 200
        third = await team.event("online")
        assert third["pid"] != second["pid"]
        assert "42" in await team.ask("calc", "What is 6 * 7?")
        removed = await team.http.delete(f"/workspaces/{team.ids['calc']}")
        assert removed.status_code == 200
        await team.event("stopped")


async def test_pruning_removes_who_left_the_file(tmp_path: Path) -> None:
    stays = "workspaces: [{name: stays, external: true}]\n"
    async with up(tmp_path, stays.replace("]", ", {name: scout, external: true}]")) as team:
        await team.event("team")
        scout = team.ids["scout"]
    async with up(tmp_path, stays, "--prune") as team:
        assert (await team.event("pruned"))["member"] == "scout"
        await team.event("team")
        assert (await team.http.get(f"/workspaces/{scout}")).status_code == 410


async def test_people_get_lines_instead_of_json(tmp_path: Path) -> None:
    (tmp_path / "team.yaml").write_text(CALC)
    process = await anyio.open_process(
        [*COMMAND, *command(tmp_path)],
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    async with process:
        assert process.stdout is not None
        lines = BufferedByteReceiveStream(process.stdout)
        said = ""
        with anyio.fail_after(SECONDS):
            while "the team is online" not in said:
                said += (await lines.receive_until(b"\n", 10_000)).decode() + "\n"
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    assert re.search(r"^calc is online \(pid \d+, port \d+\)$", said, re.MULTILINE)
    assert said.index("molecule-local answers at") < said.index("calc is new")
