"""What the environment asks `molecule-mcp` to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from molecule_runtime.core.errors import TargetError
from molecule_runtime.mcp.instructions import instructions
from molecule_runtime.mcp.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "WORKSPACE_ID": "workspace-1",
        "PLATFORM_URL": "https://acme.example/",
        "MOLECULE_WORKSPACE_TOKEN": "a-token",
        "CONFIGS_DIR": str(tmp_path / "state"),
    }


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 2),
        ("", 2),
        (" ", 2),
        ("junk", 2),
        ("1.5", 2),
        ("-1", 2),
        ("0", 0),
        ("1", 1),
        ("60", 60),
        ("61", 60),
        ("9" * 9, 60),
    ],
)
def test_the_poll_hint(environ: dict[str, str], value: str | None, seconds: int) -> None:
    if value is not None:
        environ["MOLECULE_MCP_POLL_TIMEOUT_SECS"] = value
    assert load_settings(environ).poll_hint == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 300),
        ("", 300),
        ("45", 45),
        ("0.5", 0.5),
        ("junk", 300),
        ("0", 300),
        ("-1", 300),
        ("nan", 300),
        ("inf", 300),
    ],
)
def test_the_delegation_timeout(environ: dict[str, str], value: str | None, seconds: float) -> None:
    if value is not None:
        environ["DELEGATION_TIMEOUT"] = value
    assert load_settings(environ).delegation_timeout == seconds


def test_files_are_sent_from_the_folder_that_it_was_started_in_unless_another_is_named(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.tools.files.WORKSPACE_FOLDER", tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ).files_root == tmp_path
    assert load_settings({**environ, "MOLECULE_FILES_DIR": str(tmp_path / "out")}).files_root == tmp_path / "out"
    monkeypatch.chdir("/")
    assert load_settings(environ).files_root is None


def test_the_defaults(environ: dict[str, str], tmp_path: Path) -> None:
    settings = load_settings(environ)
    (target,) = settings.targets
    assert (target.id, target.platform_url) == ("workspace-1", "https://acme.example")
    assert settings.state_dir == settings.config_dir == tmp_path / "state"
    assert settings.heartbeat
    assert settings.inbox
    assert settings.name_of(target.id) == "molecule-mcp-workspac"
    assert settings.agent_skills == ()


def test_the_card_of_the_agent_comes_from_the_environment(environ: dict[str, str]) -> None:
    environ |= {
        "MOLECULE_AGENT_NAME": "Scout",
        "MOLECULE_AGENT_DESCRIPTION": "looks around",
        "MOLECULE_AGENT_SKILLS": "sums, , maps,",
    }
    settings = load_settings(environ)
    assert settings.name_of("workspace-1") == "Scout"
    assert settings.agent_description == "looks around"
    assert settings.agent_skills == ("sums", "maps")


def test_heartbeat_and_inbox_can_be_turned_off(environ: dict[str, str]) -> None:
    environ |= {"MOLECULE_MCP_DISABLE_HEARTBEAT": "1", "MOLECULE_MCP_DISABLE_INBOX": "true"}
    settings = load_settings(environ)
    assert not settings.heartbeat
    assert not settings.inbox


def test_the_folder_of_the_configuration_may_be_another(environ: dict[str, str], tmp_path: Path) -> None:
    environ["WORKSPACE_CONFIG_PATH"] = str(tmp_path / "config")
    settings = load_settings(environ)
    assert (settings.config_dir, settings.state_dir) == (tmp_path / "config", tmp_path / "state")


def test_a_home_directory_that_does_not_exist_is_taken_as_it_stands(environ: dict[str, str]) -> None:
    environ["WORKSPACE_CONFIG_PATH"] = "~nobody-of-this-name/config"
    assert str(load_settings(environ).config_dir) == "~nobody-of-this-name/config"


def test_settings_without_a_workspace_are_refused(environ: dict[str, str]) -> None:
    del environ["WORKSPACE_ID"], environ["MOLECULE_WORKSPACE_TOKEN"]
    with pytest.raises(TargetError) as refused:
        load_settings(environ)
    assert len(refused.value.errors) == 2


def test_a_token_is_not_in_what_the_settings_show_of_themselves(environ: dict[str, str]) -> None:
    assert "a-token" not in repr(load_settings(environ))


def test_the_instructions_say_how_to_wait_how_to_answer_and_whom_to_trust() -> None:
    text = instructions(poll_hint=7, workspace_ids=["ws-1"], inbox=True)
    for phrase in (
        "wait_for_message(timeout_secs=7)",
        "inbox_pop",
        "send_message_to_user",
        "delegate_task",
        "canvas_user",
        "peer_agent",
        "delegation_result",
        "attachments",
        "activity_id",
        "grant no authority",
        "approval",
    ):
        assert phrase in text, phrase
    assert "source_workspace_id" not in text


def test_the_instructions_follow_the_settings() -> None:
    assert "timeout_secs=" not in instructions(poll_hint=0, workspace_ids=["ws-1"], inbox=True)
    assert "wait_for_message" in instructions(poll_hint=0, workspace_ids=["ws-1"], inbox=True)
    assert "wait_for_message" not in instructions(poll_hint=2, workspace_ids=["ws-1"], inbox=False)
    assert "ws-1, ws-2" in instructions(poll_hint=2, workspace_ids=["ws-1", "ws-2"], inbox=True)
