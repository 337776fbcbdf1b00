"""What an agent takes over a restart: kept at a stop, without what must not be in it, and given back once."""

from __future__ import annotations

import json
import signal
import stat
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.a2a import snapshot
from molecule_runtime.core.platform import wire

from .support import ask, process, ready, serving, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .support import Workspace

pytestmark = pytest.mark.anyio

AGENT = """
    import os
    import time
    from pathlib import Path

    from molecule_runtime.a2a.executor import ReplyExecutor
    from molecule_runtime.core.adapter import BaseAdapter

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "remembering")
        display_name = staticmethod(lambda: "Remembering")
        description = staticmethod(lambda: "Remembers.")

        async def setup(self, config):
            self.lines = ["line %d" % number for number in range(450)]
            if config.runtime_config.get("broken"):
                raise RuntimeError("no key")

        async def create_executor(self, config):
            self._executor = ReplyExecutor(self.answer)
            return self._executor

        def restore_state(self, snapshot):
            super().restore_state(snapshot)
            if Path(__file__).with_name("die").exists():
                os.kill(os.getpid(), 9)

        def pre_stop_state(self):
            if Path(__file__).with_name("hang").exists():
                time.sleep(60)
            return super().pre_stop_state()

        async def transcript_lines(self, since=0, limit=100):
            end = since + limit
            return {"lines": self.lines[since:end], "cursor": end, "more": end < len(self.lines)}

        async def answer(self, turn):
            before = self._snapshot_session_id
            self._executor._session_id = turn.text
            return "was " + str(before) + " with " + str(len(self._snapshot_transcript or []))
"""


def kept(workspace: Workspace) -> Path:
    return workspace.state / ".agent_snapshot.json"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_the_state_of_the_agent_is_kept_at_a_signal_and_given_back_once(
    make_workspace: Callable[..., Workspace], sent: signal.Signals
) -> None:
    workspace = make_workspace(AGENT)
    path = kept(workspace)
    async with process(workspace) as host:
        await ready(workspace)
        assert text_of(await ask(workspace, "session-1")) == "was None with 0"
        host.popen.send_signal(sent)
        assert await host.exit_code() == 0, host.log()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = json.loads(path.read_text())
    assert written["workspace_id"] == "ws-1"
    assert written["adapter"]["session_id"] == "session-1"
    assert written["adapter"]["transcript_lines"] == [f"line {number}" for number in range(250, 450)]
    # A host that dies while it gives the state back finds it again.
    (workspace.root / "die").touch()
    async with process(workspace) as host:
        assert await host.exit_code() == -signal.SIGKILL
    (workspace.root / "die").unlink()
    assert path.exists()
    async with process(workspace) as host:
        await ready(workspace)
        assert not path.exists()
        assert text_of(await ask(workspace, "session-2")) == "was session-1 with 200"
        host.popen.kill()
        await host.exit_code()
    # And what was given back does not come again.
    async with serving(workspace):
        await ready(workspace)
        assert text_of(await ask(workspace, "x")) == "was None with 0"


async def test_a_session_outlives_a_stop_before_the_first_turn_and_a_start_that_fails(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace(AGENT)
    async with serving(workspace):
        await ready(workspace)
        await ask(workspace, "session-1")
    async with serving(workspace):
        await ready(workspace)
    config = workspace.root / "configs" / "config.yaml"
    good = config.read_text()
    config.write_text(good + "runtime_config:\n  broken: true\n")
    async with process(workspace) as host:
        await host.says("not configured")
        await host.says("boot: register")
        host.popen.terminate()
        assert await host.exit_code() == 0
    config.write_text(good)
    async with serving(workspace):
        await ready(workspace)
        assert text_of(await ask(workspace, "x")) == "was session-1 with 200"


async def test_an_adapter_that_hangs_costs_the_shutdown_its_deadline_and_no_more(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace(AGENT)
    (workspace.root / "hang").touch()
    async with process(workspace) as host:
        await ready(workspace)
        host.popen.terminate()
        assert await host.exit_code() == 0, host.log()
        assert "did not say within 3 s" in host.log()
    assert not kept(workspace).exists()


async def test_the_state_of_another_workspace_and_a_file_that_is_no_snapshot_are_not_given_to_the_agent(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace(AGENT)
    workspace.state.mkdir(mode=0o700)
    for content in ('{"workspace_id": "ws-2", "adapter": {"session_id": "s"}}', "{", "[]"):
        kept(workspace).write_text(content)
        async with serving(workspace):
            await ready(workspace)
            assert text_of(await ask(workspace, "x")) == "was None with 0"


def test_credentials_and_what_came_out_of_a_sandbox_are_not_kept_and_paths_are(tmp_path: Path) -> None:
    path = "/workspace/projects/Quarterly-Report-2026/src/components/Dashboard/index.tsx"
    blob = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3gH5jK7mN9pQ1s"
    state: dict[str, Any] = {
        "session_id": blob,
        "api_key": "short-one",  # secret-scan: allow, made up
        "usage": {"tokens": 12, "depth": None},
        "transcript_lines": [
            f"edited {path}",
            f"export API_KEY={blob}",
            "TOOL=run_code printed this",
            {"role": "tool", "tool": "run_code", "content": "secret of the sandbox"},
            {"role": "tool", "content": {"text": "[sandbox_output] secret"}},
            {"role": "user", "content": [{"source": "sandbox", "text": "secret"}, "kept"]},
        ],
    }
    doing = "Bearer abcdefgh12345678"  # secret-scan: allow, made up
    beat = wire.HeartbeatRequest(workspace_id="ws-1", current_task=doing, active_tasks=1)
    target = tmp_path / "deep" / "snapshot.json"
    assert snapshot.write_snapshot(snapshot.build_snapshot(beat, state), target)
    read = snapshot.read_snapshot(target)
    assert read is not None
    assert read["current_task"] == "Bearer [REDACTED:bearer_token]"
    assert read["active_tasks"] == 1
    assert read["adapter"] == {
        "session_id": blob,
        "api_key": "[REDACTED:secret]",
        "usage": {"tokens": 12, "depth": None},
        "transcript_lines": [
            f"edited {path}",
            "export API_KEY=[REDACTED:env_assignment]",
            {"role": "user", "content": ["kept"]},
        ],
    }
    assert snapshot.scrub(read) == read
    snapshot.delete_snapshot(target)
    snapshot.delete_snapshot(target)
    assert snapshot.read_snapshot(target) is None


def test_a_snapshot_that_cannot_be_written_is_said_and_leaves_what_was_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "snapshot.json"
    assert snapshot.write_snapshot({"adapter": {"a": 1}}, target)
    assert not snapshot.write_snapshot({"adapter": "\ud800" * 3, "much": "x y" * (snapshot.MAX_BYTES // 3 + 1)}, target)
    assert not snapshot.write_snapshot({"adapter": {}}, target / "below")
    assert caplog.text.count("is not kept") == 2
    assert snapshot.read_snapshot(target) == {"adapter": {"a": 1}}
    endless: list[Any] = []
    endless.append(endless)
    assert snapshot.write_snapshot({"adapter": endless}, target)
