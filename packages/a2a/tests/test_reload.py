"""Edits of config.yaml while a workspace runs: what is taken over, what needs a restart, and what cannot be used."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from molecule_runtime.a2a import reload
from molecule_runtime.a2a.reload import LIVE, differences, merged
from molecule_runtime.core.config import WorkspaceConfig

from .support import ask, eventually, ready, serving, text_of
from .test_readme import README

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .support import FakePlatform, Workspace

    Make = Callable[..., Workspace]

pytestmark = pytest.mark.anyio

PROMPTED = """
    from molecule_runtime.a2a.executor import ReplyExecutor
    from molecule_runtime.core.adapter import BaseAdapter

    class Prompted(ReplyExecutor):
        system_prompt = ""

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "prompted")
        display_name = staticmethod(lambda: "Prompted")
        description = staticmethod(lambda: "Says what its prompt begins with.")

        async def setup(self, config):
            self.prompt = (await self._common_setup(config)).system_prompt

        async def create_executor(self, config):
            self._executor = Prompted(self.answer)
            self._executor.system_prompt = self.prompt
            return self._executor

        async def answer(self, turn):
            lines = [line for line in self._executor.system_prompt.splitlines() if line.startswith("You are a ")]
            return " / ".join(lines)
"""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the files often, so that no test waits for long."""
    monkeypatch.setattr(reload, "LOOK_SECONDS", 0.05)
    monkeypatch.delenv("LOG_LEVEL", raising=False)


def config_file(workspace: Workspace) -> Path:
    return workspace.root / "configs" / "config.yaml"


def edit(workspace: Workspace, text: str) -> None:
    """Replace the file as editors do."""
    fresh = config_file(workspace).with_name("fresh")
    fresh.write_text(text)
    fresh.replace(config_file(workspace))


def notice(platform: FakePlatform) -> str:
    """Return what the last heartbeat says that needs a hand."""
    return str(platform.beats[-1].get("sample_error", "")) if platform.beats else ""


async def card_of(workspace: Workspace) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        card: dict[str, Any] = (await client.get(f"{workspace.url}/.well-known/agent-card.json")).json()
        return card


async def test_what_is_safe_is_taken_over_and_the_rest_is_named(
    make_workspace: Make, platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    workspace = make_workspace()
    before = config_file(workspace).read_text()
    async with serving(workspace):
        await ready(workspace)
        edit(workspace, f"name: Renamed\nidle_interval_seconds: 700\n{before}")
        await eventually(lambda: "idle_interval_seconds, name" in caplog.text, "the edit is taken over")
        assert (await card_of(workspace))["name"] == "Renamed"
        await eventually(
            lambda: [card.get("name") for card in platform.cards_updated][-1:] == ["Renamed"],
            "the platform hears of it",
        )

        edit(workspace, f"name: Renamed\ntier: 3\n{before.replace(str(workspace.port), '1234')}")
        needs = "needs a restart: a2a.port, tier"
        await eventually(lambda: needs in caplog.text, "what needs a restart is named")
        await eventually(lambda: "a2a.port, tier" in notice(platform), "the heartbeat says it")
        assert "a2a.port, tier" in platform.cards_updated[-1]["configuration_warning"]
        assert text_of(await ask(workspace, "still here")) == "You said: still here"

        edit(workspace, f"name: Renamed\n{before}")
        await eventually(lambda: notice(platform) == "", "nothing waits any more")
        assert "configuration_warning" not in platform.cards_updated[-1]


async def test_an_edit_that_cannot_be_used_leaves_what_runs_and_people_see_it(
    make_workspace: Make, platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = make_workspace()
    before = config_file(workspace).read_text()
    async with serving(workspace):
        await ready(workspace)
        secret = "sk-" + "a1b2c3d4" * 5
        edit(workspace, f"name: {secret}\nidle_interval_seconds: often\na2a: [")
        await eventually(lambda: "cannot be used" in caplog.text, "the log says it")
        await eventually(lambda: "config.yaml" in notice(platform), "the heartbeat says it")
        assert platform.beats[-1]["error_rate"] == 0
        assert text_of(await ask(workspace, "hello")) == "You said: hello"
        assert (await card_of(workspace))["name"] != secret
        assert secret not in f"{caplog.text}{platform.beats}{platform.cards_updated}"

        config_file(workspace).unlink()
        await eventually(lambda: caplog.text.count("cannot be used") == 2, "it is gone")
        edit(workspace, before)
        await eventually(lambda: notice(platform) == "", "the mended file clears it")


async def test_a_prompt_that_is_edited_reaches_the_agent_and_the_log_level_changes(
    make_workspace: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    workspace = make_workspace(PROMPTED)
    before = config_file(workspace).read_text()
    prompt = workspace.root / "configs" / "system-prompt.md"
    prompt.write_text("You are a poet.")
    async with serving(workspace):
        await ready(workspace)
        assert text_of(await ask(workspace, "who?")) == "You are a poet."
        prompt.write_text("You are a painter.")
        await eventually(lambda: "taken over while running: system-prompt.md" in caplog.text, "the prompt is read")
        assert text_of(await ask(workspace, "who?")) == "You are a painter."

        (workspace.root / "configs" / "more.md").write_text("You are a brief one.")
        edit(workspace, f"prompt_files: [system-prompt.md, more.md]\n{before}")
        await eventually(lambda: "prompt_files" in caplog.text, "another file is named")
        assert text_of(await ask(workspace, "who?")) == "You are a painter. / You are a brief one."


async def test_an_adapter_that_cannot_take_a_change_over_keeps_what_it_has(
    make_workspace: Make, caplog: pytest.LogCaptureFixture
) -> None:
    failing = PROMPTED + "\n        async def reload(self, config):\n            raise ValueError('no')\n"
    workspace = make_workspace(failing)
    prompt = workspace.root / "configs" / "system-prompt.md"
    prompt.write_text("You are a poet.")
    async with serving(workspace):
        await ready(workspace)
        prompt.write_text("You are a painter.")
        await eventually(lambda: "could not take its new prompt over" in caplog.text, "the log says it")
        assert text_of(await ask(workspace, "who?")) == "You are a poet."


def test_only_keys_of_the_model_are_taken_over_and_the_readme_lists_them() -> None:
    for key in LIVE:
        block, _, name = key.partition(".")
        whole = WorkspaceConfig()
        assert hasattr(getattr(whole, block) if name else whole, name or block)
    table = (
        README.read_text(encoding="utf-8").partition("### Editing it while the workspace runs")[2].partition("\n## ")[0]
    )
    listed = {key for line in table.splitlines() if line.startswith("| `") for key in re.findall(r"`([a-z_.]+)`", line)}
    assert listed == LIVE


def test_a_merge_takes_what_is_live_and_nothing_else() -> None:
    running = WorkspaceConfig.model_validate({"name": "a", "a2a": {"port": 1}, "observability": {"log_level": "INFO"}})
    edited = WorkspaceConfig.model_validate(
        yaml.safe_load(
            "{description: d, a2a: {port: 2}, observability: {log_level: DEBUG, event_log: {max_entries: 5}}}"
        )
    )
    assert set(differences(running, edited)) == {
        "a2a.port",
        "description",
        "name",
        "observability.event_log.max_entries",
        "observability.log_level",
        *({"event_log.max_entries"} if edited.event_log.max_entries == 5 else set()),
    }
    both = merged(running, edited)
    assert (both.name, both.description, both.a2a.port) == ("Workspace", "d", 1)
    assert "name" not in both.model_fields_set
    assert both.observability.log_level == "DEBUG"
    assert both.observability.event_log.max_entries == running.observability.event_log.max_entries
