"""What the README promises, as its reader would do it."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest
import yaml

from molecule_runtime.core.envelope import Reply, message_send, read_answer
from molecule_runtime.localplatform.server import serve
from molecule_runtime.localplatform.settings import LocalSettings
from molecule_runtime.localplatform.team.logfile import tail
from molecule_runtime.localplatform.team.processes import child

if TYPE_CHECKING:
    from molecule_runtime.localplatform.events import Subscription

pytestmark = pytest.mark.anyio

README = Path(__file__).parents[2] / "README.md"
SECONDS = 40


def test_the_readme_names_the_two_commands() -> None:
    console = "\n".join(re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL))
    assert "$ uv run molecule-local demo" in console
    assert "$ uv run pytest" in console


async def test_the_adapter_of_the_readme_joins_the_platform_and_answers(tmp_path: Path) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(source.splitlines()) <= 20
    (tmp_path / "adapter.py").write_text(source)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({"name": "shouter", "runtime": "shout", "a2a": {"port": port}, "runtime_config": {"mark": "?!"}})
    )
    log = tmp_path / "host.log"
    with anyio.fail_after(SECONDS):
        async with (
            serve(LocalSettings(data=tmp_path / "platform", port=0)) as platform,
            httpx.AsyncClient(
                base_url=platform.url,
                headers={"Authorization": f"Bearer {platform.admin_token}"},
                timeout=20,
                trust_env=False,
            ) as human,
            platform.bus.subscribe() as frames,
        ):
            created = await human.post("/workspaces", json={"name": "shouter", "runtime": "shout"})
            workspace_id = created.json()["id"]
            environ = {
                "PATH": "/usr/bin:/bin",
                "HOME": str(tmp_path),
                "WORKSPACE_ID": workspace_id,
                "PLATFORM_URL": platform.url,
                "ADAPTER_MODULE": "adapter",
                "PYTHONPATH": str(tmp_path),
                "WORKSPACE_CONFIG_PATH": str(tmp_path),
                "CONFIGS_DIR": str(tmp_path / "state"),
                "MOLECULE_BIND_HOST": "127.0.0.1",
            }
            async with child([sys.executable, "-m", "molecule_runtime.a2a"], environ=environ, log=log):
                await online(frames, workspace_id, log)
                response = await human.post(f"/workspaces/{workspace_id}/a2a", json=message_send("hello"))
    answer = read_answer(response.json())
    assert isinstance(answer, Reply)
    assert answer.text == "HELLO?!"


async def online(frames: Subscription, workspace_id: str, log: Path) -> None:
    with anyio.move_on_after(SECONDS / 2):
        async for frame in frames:
            if frame.event == "WORKSPACE_ONLINE" and frame.workspace_id == workspace_id:
                return
    pytest.fail(f"the host did not come online: {tail(log)}")
