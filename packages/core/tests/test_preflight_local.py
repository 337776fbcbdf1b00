"""The checks that ask this machine only."""

from __future__ import annotations

import socket
import stat
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.core import features
from molecule_runtime.core.config import load
from molecule_runtime.core.preflight import ALL_CHECKS, BOOT_CHECKS, Context, Result, Status, run_checks

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "configs"
    made.mkdir(mode=0o755)
    (made / "system-prompt.md").write_text("Be brief.", encoding="utf-8")
    return made


def run(check: str, folder: Path, text: str = "", **environ: str) -> list[Result]:
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    state = folder.parent / "state"
    state.mkdir(exist_ok=True, mode=0o700)
    given = {
        "CONFIGS_DIR": str(state),
        "HOME": str(folder.parent),
        "PLUGINS_DIR": str(folder.parent / "shared"),
        **environ,
    }
    context = Context(loaded=load(folder, given), environ=given, offline="OFFLINE" in environ)
    (chosen,) = [each for each in ALL_CHECKS if each.id == check]
    return list(run_checks([chosen], context).results)


def statuses(results: list[Result]) -> list[str]:
    return [str(result.status) for result in results]


def test_every_check_has_an_id_of_its_own_a_title_and_a_severity() -> None:
    assert len({check.id for check in ALL_CHECKS}) == len(ALL_CHECKS)
    assert all(check.title and check.severity in {Status.WARN, Status.FAIL} for check in ALL_CHECKS)
    assert {check.id for check in BOOT_CHECKS} == {
        "env.values",
        "env.required",
        "auth.token_file",
        "prompts",
        "skills",
        "plugins",
        "features",
    }


def test_every_finding_about_config_yaml_is_a_result(folder: Path) -> None:
    results = run("config", folder, "tier: x\nnaem: y\n")
    assert [(str(result.status), result.fix) for result in results] == [
        ("fail", "correct it, or remove the key for the default (1)"),
        ("warn", "did you mean name?"),
    ]
    assert ":1:7: tier must be a whole number" in results[0].reason
    assert statuses(run("config", folder)) == ["ok"]


# --- folders ----------------------------------------------------------------------------------------------------------------


def test_a_folder_that_every_user_can_change_is_worth_a_word(folder: Path) -> None:
    folder.chmod(0o777)
    results = run("config.folder", folder)
    assert statuses(results) == ["warn", "ok"]
    assert results[0].fix == f"chmod o-w {folder}"


def test_a_config_yaml_that_every_user_can_change_is_worth_a_word(folder: Path) -> None:
    (folder / "config.yaml").touch()
    (folder / "config.yaml").chmod(0o666)
    assert statuses(run("config.folder", folder)) == ["warn", "ok"]


def test_a_folder_on_a_read_only_file_system_is_worth_a_word(folder: Path) -> None:
    context = Context(loaded=load("/proc", {}), environ={"CONFIGS_DIR": str(folder)})
    (chosen,) = [check for check in ALL_CHECKS if check.id == "config.folder"]
    results = run_checks([chosen], context).results
    assert "cannot be written" in results[0].reason
    assert results[0].status is Status.WARN


def test_a_folder_that_does_not_exist_is_a_failure(folder: Path) -> None:
    context = Context(loaded=load(folder / "nowhere", {}), environ={"CONFIGS_DIR": str(folder)})
    (chosen,) = [check for check in ALL_CHECKS if check.id == "config.folder"]
    assert [result.status for result in run_checks([chosen], context).results] == [Status.FAIL]


def test_a_state_folder_that_cannot_be_used_is_a_failure(folder: Path) -> None:
    (result,) = run("state.folder", folder, CONFIGS_DIR="/proc/nothing")
    assert result.status is Status.FAIL
    assert "CONFIGS_DIR" in result.fix


@pytest.mark.parametrize("name", [".auth_token", ".platform_inbound_secret"])
def test_a_secret_that_others_can_read_is_worth_a_word(folder: Path, name: str) -> None:
    assert statuses(run("state.folder", folder)) == ["ok"]
    path = folder.parent / "state" / name
    path.write_text("secret-value", encoding="utf-8")
    path.chmod(0o640)
    result = run("state.folder", folder)[0]
    assert (result.status, result.fix) == (Status.WARN, f"chmod 600 {path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# --- identity and token -----------------------------------------------------------------------------------------------------


def test_the_workspace_and_the_platform_must_be_named(folder: Path) -> None:
    good = {"WORKSPACE_ID": "ws-1", "PLATFORM_URL": "https://acme.example"}
    assert statuses(run("workspace.identity", folder, **good)) == ["ok", "ok"]
    assert statuses(run("workspace.identity", folder)) == ["fail", "ok"]
    assert statuses(run("workspace.identity", folder, OFFLINE="1")) == ["skip", "ok"]
    assert statuses(run("workspace.identity", folder, WORKSPACE_ID="../x", PLATFORM_URL="ftp://x")) == ["fail", "fail"]


def test_a_token_that_is_missing_is_worth_a_word_and_its_source_is_named(folder: Path) -> None:
    assert statuses(run("workspace.token", folder)) == ["warn"]
    (found,) = run("workspace.token", folder, MOLECULE_WORKSPACE_TOKEN="token-value")  # noqa: S106 - made up
    assert (found.status, found.reason) == (Status.OK, "token from environment variable MOLECULE_WORKSPACE_TOKEN")


@pytest.mark.parametrize("content", [None, "", "two words", "\x80"])
def test_a_token_file_that_was_named_on_purpose_must_work(folder: Path, content: str | None) -> None:
    path = folder / "token"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    (found,) = run("workspace.token", folder, MOLECULE_WORKSPACE_TOKEN_FILE=str(path))
    assert found.status is Status.FAIL
    assert str(path) in found.reason


# --- port -------------------------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_a_failure_and_one_that_is_free_is_not(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (found,) = run("a2a.port", folder, f"a2a: {{port: {port}}}", MOLECULE_BIND_HOST="127.0.0.1")
    assert found.status is Status.FAIL
    assert f"port {port} is taken" in found.reason
    assert statuses(run("a2a.port", folder, f"a2a: {{port: {port}}}", MOLECULE_BIND_HOST="127.0.0.1")) == ["ok"]


def test_an_address_that_is_not_ours_is_a_failure(folder: Path) -> None:
    (found,) = run("a2a.port", folder, MOLECULE_BIND_HOST="203.0.113.1")
    assert (found.status, found.fix) == (Status.FAIL, "check MOLECULE_BIND_HOST and a2a.port")


def test_a_guard_needs_its_secret_and_nothing_shows_it(folder: Path) -> None:
    assert statuses(run("a2a.inbound_auth", folder)) == ["ok"]
    assert statuses(run("a2a.inbound_auth", folder, "a2a: {inbound_auth: platform}")) == ["ok"]
    bearer = "a2a: {inbound_auth: bearer}"
    (missing,) = run("a2a.inbound_auth", folder, bearer)
    assert missing.status is Status.FAIL
    assert "MOLECULE_A2A_TOKEN_FILE" in missing.fix
    (blank,) = run("a2a.inbound_auth", folder, bearer, **{"MOLECULE_A2A_TOKEN": "two words"})
    assert blank.status is Status.FAIL
    assert "two words" not in str(blank)
    (nowhere,) = run("a2a.inbound_auth", folder, bearer, **{"MOLECULE_A2A_TOKEN_FILE": "/nowhere"})
    assert "/nowhere is empty" in nowhere.reason
    assert statuses(run("a2a.inbound_auth", folder, bearer, **{"MOLECULE_A2A_TOKEN": "one-word"})) == ["ok"]


# --- variables --------------------------------------------------------------------------------------------------------------


def test_every_variable_that_holds_a_wrong_value_is_named_with_its_remedy(folder: Path) -> None:
    environ = {"LOG_LEVEL": "loud", "DELEGATION_TIMEOUT": "soon", "ANTHROPIC_BASE_URL": "api.example"}
    results = run("env.values", folder, **environ)
    assert statuses(results) == ["warn", "warn", "warn"]
    assert {result.fix for result in results} == {f"correct or unset {name}" for name in environ}


def test_variables_with_good_values_pass(folder: Path) -> None:
    assert statuses(run("env.values", folder, LOG_LEVEL="debug", DELEGATION_TIMEOUT="30")) == ["ok"]


REQUIRED = "runtime_config: {required_env: [A_KEY, B_KEY]}\nenv: {required: [B_KEY, C_KEY], optional: [D_KEY]}\n"


def test_each_required_variable_that_is_unset_or_blank_is_one_failure(folder: Path) -> None:
    results = run("env.required", folder, REQUIRED, A_KEY="set", B_KEY=" ")
    assert [(str(result.status), result.reason) for result in results] == [
        ("fail", "B_KEY is not set (env.required in config.yaml)"),
        ("fail", "C_KEY is not set (env.required in config.yaml)"),
    ]
    assert statuses(run("env.required", folder, REQUIRED, A_KEY="a", B_KEY="b", C_KEY="c")) == ["ok"]
    assert statuses(run("env.required", folder)) == ["ok"]


def test_a_variable_of_the_chosen_model_is_worth_a_word(folder: Path) -> None:
    text = "model: glm\nmodels: [{id: glm, required_env: [GLM_KEY]}, {id: other, required_env: [OTHER_KEY]}]"
    results = run("env.required", folder, text)
    assert [(str(result.status), result.reason) for result in results][1:] == [
        ("warn", "GLM_KEY is not set, which model 'glm' needs")
    ]


@pytest.mark.parametrize(
    ("extra", "environ", "file", "status"),
    [
        ("", {}, False, "fail"),
        ("", {}, True, "ok"),
        (", auth_token_env: T_KEY", {"T_KEY": "x"}, False, "ok"),
        (", auth_token_env: T_KEY", {}, False, "fail"),
        (", required_env: [A_KEY]", {"A_KEY": "x"}, False, "ok"),
        (", required_env: [A_KEY]", {}, False, "fail"),
    ],
)
def test_the_older_token_file_may_be_missing_when_the_environment_has_what_is_needed(
    folder: Path, extra: str, environ: dict[str, str], file: bool, status: str
) -> None:
    if file:
        (folder / "auth-token").write_text("x", encoding="utf-8")
    text = f"runtime_config: {{auth_token_file: auth-token{extra}}}"
    assert statuses(run("auth.token_file", folder, text, **environ)) == [status]


# --- prompts, skills, plugins, features --------------------------------------------------------------------------------------


def test_each_prompt_file_that_is_missing_is_worth_a_word(folder: Path) -> None:
    assert statuses(run("prompts", folder)) == ["ok"]
    (folder / "system-prompt.md").unlink()
    assert statuses(run("prompts", folder)) == ["warn"]
    (folder / "a.md").write_text("a", encoding="utf-8")
    (folder / "bin.md").write_bytes(b"\xff\xff")
    results = run("prompts", folder, "prompt_files: [a.md, b.md, bin.md]")
    assert [result.reason for result in results] == [
        "prompt file 'b.md' does not exist",
        "prompt file 'bin.md' is not UTF-8 text (byte 0)",
    ]


def test_each_skill_without_a_readable_skill_file_is_worth_a_word(folder: Path) -> None:
    (folder / "skills" / "good").mkdir(parents=True)
    (folder / "skills" / "good" / "SKILL.md").write_text("# Good", encoding="utf-8")
    (folder / "skills" / "odd" / "SKILL.md").mkdir(parents=True)
    assert statuses(run("skills", folder, "skills: [good]")) == ["ok"]
    results = run("skills", folder, "skills: [good, odd, none]")
    assert [result.status for result in results] == [Status.WARN, Status.WARN]
    assert "is not a file" in results[0].reason
    assert "does not exist" in results[1].reason


def test_each_plugin_that_is_named_must_be_there_unless_it_has_a_source(folder: Path) -> None:
    assert statuses(run("plugins", folder)) == ["skip"]
    (folder / "plugins" / "mine").mkdir(parents=True)
    (folder.parent / "shared" / "ours").mkdir(parents=True)
    text = "plugins: [mine, ours, gone, {name: fetched, source: 'github://x'}]"
    results = run("plugins", folder, text)
    assert [(str(result.status), "gone" in result.reason) for result in results] == [("warn", True)]
    assert statuses(run("plugins", folder, "plugins: [mine, ours]")) == ["ok"]


def test_a_plugin_manifest_that_cannot_be_read_is_worth_a_word(folder: Path) -> None:
    (folder / "plugins" / "mine").mkdir(parents=True)
    (folder / "plugins" / "mine" / "plugin.yaml").write_bytes(b"\xff")
    (found,) = run("plugins", folder)
    assert (found.status, "plugin.yaml" in found.reason) == (Status.WARN, True)


@pytest.mark.parametrize(
    ("text", "feature"), [("skills: [a]", "skills"), ("plugins: [a]", "skills"), ("tools: [a]", "tools")]
)
def test_a_feature_that_is_asked_for_and_not_installed_names_its_pip_line(
    folder: Path, text: str, feature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: str) -> list[str]:
        return []

    monkeypatch.setattr(features, "names", none)
    (found,) = run("features", folder, text)
    assert (found.status, found.fix) == (Status.FAIL, f"pip install molecule-runtime-{feature}")
    assert statuses(run("features", folder)) == ["ok"]


def test_checks_that_need_the_configuration_are_left_out_when_there_is_none(folder: Path) -> None:
    for check in (
        "a2a.port",
        "a2a.inbound_auth",
        "env.required",
        "auth.token_file",
        "prompts",
        "skills",
        "plugins",
        "features",
    ):
        assert statuses(run(check, folder, "tier: x")) == ["skip"]
