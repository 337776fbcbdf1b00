"""An agent that is a program: what it gets, what its output becomes, and that nothing of it outlives its turn or its host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .gated import call, said, send, state_of, text_in
from .support import Workspace, eventually, process, ready, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

pytestmark = pytest.mark.anyio

SECRET = "sk-" + "a1B2c3D4" * 5

PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
here = Path(__file__).parent
prompt = sys.stdin.read()
word, _, rest = prompt.partition(" ")
say = lambda text: print(text, flush=True)
if word == "echo":
    say("argv " + " ".join(sys.argv[1:]) + "; prompt " + rest)
    say("environ " + " ".join(sorted(os.environ)))
elif word == "chain":
    say(os.environ["MOLECULE_DELEGATION_CHAIN"])
elif word == "family":
    # A child that does not care about SIGTERM, and has a child.
    inner = "import os, signal, sys, time; signal.signal(15, signal.SIG_IGN); "
    inner += "open(sys.argv[1], 'a').write(f'{os.getpid()} '); time.sleep(600)"
    for _ in range(2):
        subprocess.Popen([sys.executable, "-c", inner, str(here / "pids")])
    signal.signal(15, signal.SIG_IGN)
    while len((here / "pids").read_text().split() if (here / "pids").exists() else []) < 2:
        time.sleep(0.01)
    (here / "pids").open("a").write(str(os.getpid()) + " ")
    if rest == "leave":
        say("left them running")
    else:
        say("waiting")
        time.sleep(600)
elif word == "line":
    sys.stdout.write("x" * 200_000)
    sys.stdout.flush()
    time.sleep(600)
elif word == "flood":
    while True:
        say("y" * 10_000)
elif word == "mute":
    time.sleep(600)
elif word == "fail":
    code, _, text = rest.partition(" ")
    sys.stderr.write("noise " * 10_000 + text)
    sys.exit(int(code))
elif word == "session":
    known = sys.argv[sys.argv.index("--resume") + 1] if "--resume" in sys.argv else ""
    if rest == "lost" and known:
        sys.exit("Error: session " + known + " not found")
    say("SESSION s" + str(os.getpid()))
    say("resumed " + known if known else "new")
"""

AGENT = f"""
    import sys
    from pathlib import Path
    from molecule_runtime.a2a.executors import CliExecutor, CliLimits, TextDelta, sessions_of
    from molecule_runtime.core.adapter import BaseAdapter

    PROGRAM = Path(__file__).with_name("program.py")

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "program")
        display_name = staticmethod(lambda: "Program")
        description = staticmethod(lambda: "Is a program.")

        async def setup(self, config):
            self.sessions = sessions_of(config)

        async def create_executor(self, config):
            return CliExecutor(
                self.argv, self.read, pass_on=["PASSED_ON"], environ={{"TOOL_TOKEN": "{SECRET}"}}, sessions=self.sessions,
                session_in=lambda line: line.removeprefix("SESSION ") if line.startswith("SESSION ") else None,
                limits=CliLimits(seconds=30, idle_seconds=1.0, line_bytes=50_000, output_bytes=200_000)
                if config.runtime_config.get("small") else None,
            )

        def argv(self, turn, session):
            argv = [sys.executable, str(PROGRAM), *(["--resume", session] if session else [])]
            if turn.text == "leak":
                argv.append("--token={SECRET}")
            return argv

        def read(self, line):
            if not line.startswith("SESSION "):
                yield TextDelta(line + "\\n")
"""


def pids(workspace: Workspace) -> list[int]:
    path = workspace.root / "pids"
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie of another parent counts as ended.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def children() -> set[int]:
    return {int(word) for path in Path("/proc/self/task").glob("*/children") for word in path.read_text().split()}


def workspace_of(make_workspace: Callable[..., Workspace], config: str = "") -> Workspace:
    workspace = make_workspace(AGENT, config)
    (workspace.root / "program.py").write_text(PROGRAM)
    return workspace


@pytest.fixture
async def agent(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Workspace, None]:
    monkeypatch.setenv("PASSED_ON", "1")
    monkeypatch.setenv("NOT_PASSED_ON", "1")
    workspace = workspace_of(make_workspace, "runtime_config: {small: true}")
    async with serving(workspace):
        await ready(workspace)
        before = children()
        yield workspace
        await eventually(lambda: children() <= before, "no child is left, alive or dead")


async def test_the_program_gets_its_prompt_on_its_input_and_only_named_variables(agent: Workspace) -> None:
    said_by_program = text_in(await send(agent, said("echo $(id) ; rm -rf /")))
    assert "argv ; prompt $(id) ; rm -rf /" in said_by_program
    names = said_by_program.partition("environ ")[2].split()
    assert {"PASSED_ON", "TOOL_TOKEN", "PATH"} <= set(names)
    assert "NOT_PASSED_ON" not in names
    # Nobody handed this task on.
    assert "MOLECULE_DELEGATION_CHAIN" not in names
    handed_on = text_in(await send(agent, said("chain", metadata={"source_workspace_id": "ws-9"})))
    assert handed_on.strip() == "ws-9"
    refused = await send(agent, said("leak"))
    assert state_of(refused) == "failed"
    assert SECRET not in str(refused)


async def test_a_program_that_says_too_much_or_nothing_is_ended(agent: Workspace) -> None:
    for text, tag in (("line", "output_too_large"), ("flood", "output_too_large"), ("mute", "timeout")):
        failed = await send(agent, said(text))
        assert state_of(failed) == "failed"
        assert f"Agent error ({tag})" in str(failed["status"]["message"]), text


async def test_how_a_program_failed_is_said_in_a_word(agent: Workspace) -> None:
    for text, tag in (
        ("3 the success rate of the author was low", "exit_3"),
        ("1 HTTP 429 Too Many Requests for " + SECRET, "rate_limited"),
        ("1 Invalid API key", "auth_failed"),
    ):
        failed = await send(agent, said(f"fail {text}"))
        message = str(failed["status"]["message"])
        assert f"Agent error ({tag})" in message, text
        assert SECRET not in message


async def test_a_session_goes_on_and_one_that_is_lost_is_begun_anew_once(agent: Workspace) -> None:
    assert "new" in text_in(await send(agent, said("session", contextId="c")))
    assert "resumed s" in text_in(await send(agent, said("session", contextId="c")))
    assert "new" in text_in(await send(agent, said("session lost", contextId="c")))


async def test_what_a_program_leaves_running_ends_with_it(agent: Workspace) -> None:
    done = await send(agent, said("family leave"))
    assert state_of(done) == "completed", "the turn does not wait for what keeps the program's output open"
    assert "left them running" in text_in(done)
    left = pids(agent)
    assert len(left) == 3
    await eventually(lambda: not any(map(alive, left)), "all of them have ended")


async def test_cancelling_ends_the_whole_family_before_the_canceller_is_told(agent: Workspace) -> None:
    task = await send(agent, said("family"), blocking=False)
    await eventually(lambda: len(pids(agent)) == 3, "the family is there")
    family = pids(agent)
    cancelled = await call(agent, "tasks/cancel", id=task["id"])
    assert state_of(cancelled["result"]) == "canceled"
    assert not any(map(alive, family))


async def test_the_family_does_not_outlive_the_stop_of_its_host(make_workspace: Callable[..., Workspace]) -> None:
    workspace = workspace_of(make_workspace)
    async with serving(workspace, drain=0.1):
        await ready(workspace)
        await send(workspace, said("family"), blocking=False)
        await eventually(lambda: len(pids(workspace)) == 3, "the family is there")
    assert not any(map(alive, pids(workspace)))


async def test_the_family_does_not_outlive_a_host_that_is_killed(make_workspace: Callable[..., Workspace]) -> None:
    workspace = workspace_of(make_workspace)
    async with process(workspace) as host:
        await ready(workspace)
        await send(workspace, said("family"), blocking=False)
        await eventually(lambda: len(pids(workspace)) == 3, "the family is there")
        host.popen.kill()
        await host.exit_code()
        await eventually(lambda: not any(map(alive, pids(workspace))), "all of them have ended")
