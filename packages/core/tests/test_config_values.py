"""What a file gives: every key, its default, its place, its environment variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from molecule_runtime.core.config import (
    DEFAULT_MODEL,
    LoadedConfig,
    WorkspaceConfig,
    load,
)
from molecule_runtime.core.config.overrides import OVERRIDES
from molecule_runtime.core.config.review import annotation_at

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, text: str, **environ: str) -> WorkspaceConfig:
    loaded = load(write(folder, text), environ)
    assert loaded.config is not None, [str(finding) for finding in loaded.findings]
    return loaded.config


def errors(loaded: LoadedConfig) -> list[str]:
    return [str(finding) for finding in loaded.errors]


def at(config: WorkspaceConfig, path: str) -> Any:
    value: Any = config
    for part in path.split("."):
        value = getattr(value, part)
    return value


DEFAULTS: dict[str, object] = {
    "name": "Workspace",
    "description": "",
    "role": "",
    "version": "1.0.0",
    "tier": 1,
    "model": "anthropic:claude-opus-4-7",
    "provider": "anthropic",
    "runtime": "langgraph",
    "runtime_config": {},
    "initial_prompt": "",
    "initial_prompt_file": "",
    "idle_prompt": "",
    "idle_prompt_file": "",
    "idle_interval_seconds": 600,
    "skills": (),
    "plugins": (),
    "tools": (),
    "prompt_files": (),
    "shared_context": (),
    "sub_workspaces": (),
    "effort": "",
    "task_budget": 0,
    "a2a.port": 8000,
    "a2a.streaming": True,
    "a2a.push_notifications": True,
    "a2a.delivery_mode": None,
    "delegation.retry_attempts": 3,
    "delegation.retry_delay": 5.0,
    "delegation.timeout": 120.0,
    "delegation.escalate": True,
    "sandbox.backend": "bubblewrap",
    "sandbox.memory_limit": "256m",
    "sandbox.timeout": 30,
    "rbac.roles": ("operator",),
    "rbac.allowed_actions": {},
    "hitl.default_timeout": 300.0,
    "hitl.bypass_roles": (),
    "governance.enabled": False,
    "governance.toolkit": "microsoft",
    "governance.policy_endpoint": "",
    "governance.policy_mode": "audit",
    "governance.policy_file": "",
    "governance.blocked_patterns": (),
    "governance.max_tool_calls_per_task": 50,
    "security_scan.mode": "warn",
    "security_scan.fail_open_if_no_scanner": True,
    "compliance.mode": "owasp_agentic",
    "compliance.prompt_injection": "detect",
    "compliance.max_tool_calls_per_task": 50,
    "compliance.max_task_duration_seconds": 300,
    "observability.heartbeat_interval_seconds": 30,
    "observability.log_level": "INFO",
    "event_log.backend": "memory",
    "event_log.ttl_seconds": 3600,
    "event_log.max_entries": 10000,
    "env.required": (),
    "env.optional": (),
    "mcp_servers": (),
    "models": (),
    "providers": (),
}


@pytest.mark.parametrize(("key", "value"), DEFAULTS.items())
def test_an_empty_file_has_the_contracts_defaults(tmp_path: Path, key: str, value: object) -> None:
    assert at(read(tmp_path, ""), key) == value


def test_the_default_channel_for_approvals_is_the_dashboard(tmp_path: Path) -> None:
    assert [channel.type for channel in read(tmp_path, "").hitl.channels] == ["dashboard"]


@pytest.mark.parametrize("key", sorted({key.split(".")[0] for key in DEFAULTS}))
def test_a_key_that_is_present_but_null_has_its_default(tmp_path: Path, key: str) -> None:
    loaded = load(write(tmp_path, f"{key}:\n"), {})
    assert loaded.config is not None
    assert loaded.findings == ()
    assert getattr(loaded.config, key) == getattr(read(tmp_path, ""), key)


@pytest.mark.parametrize("key", [key for key in DEFAULTS if "." in key])
def test_a_key_inside_a_block_that_is_null_has_its_default(tmp_path: Path, key: str) -> None:
    block, _, inner = key.partition(".")
    assert at(read(tmp_path, f"{block}: {{{inner}: null}}"), key) == DEFAULTS[key]


def test_the_configuration_is_frozen(tmp_path: Path) -> None:
    config = read(tmp_path, "skills: [a]\nrbac: {roles: [admin]}")
    with pytest.raises(ValidationError):
        config.name = "other"
    with pytest.raises(ValidationError):
        config.a2a.port = 1
    assert config.skills == ("a",)
    assert config.rbac.roles == ("admin",)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("version: 1.0", "1.0"),
        ("version: 1.10", "1.10"),
        ("version: 2", "2"),
        ("version: 0x10", "0x10"),
        ("version: 1_0", "1_0"),
        ("version: 2026-07-01", "2026-07-01"),
        ("version: 2026-02-31", "2026-02-31"),
        ("version: 1e3", "1e3"),
        ("version: 12:30:45", "12:30:45"),
        ("version: 007", "007"),
        ("version: '1.0'", "1.0"),
        ("version: on", "on"),
    ],
)
def test_where_a_key_takes_text_the_text_of_the_file_is_the_value(tmp_path: Path, text: str, version: str) -> None:
    assert read(tmp_path, text).version == version


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("security_scan: off", "off"),
        ("security_scan: Off", "off"),
        ("security_scan: 'off'", "off"),
        ("security_scan: block", "block"),
        ("security_scan: {mode: off}", "off"),
        ("security_scan: {mode: BLOCK}", "block"),
        ("security_scan:", "warn"),
        ("security_scan: {mode: null}", "warn"),
    ],
)
def test_the_short_form_of_security_scan_is_its_mode_and_off_is_off(tmp_path: Path, text: str, mode: str) -> None:
    assert read(tmp_path, text).security_scan.mode == mode


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("compliance: {mode: null}", "owasp_agentic"),
        ("compliance:", "owasp_agentic"),
        ("compliance: {mode: ''}", ""),
        ("compliance: {mode: off}", ""),
        ("compliance: off", ""),
        ("compliance: {mode: OWASP_Agentic}", "owasp_agentic"),
    ],
)
def test_compliance_is_off_only_when_the_file_says_so(tmp_path: Path, text: str, mode: str) -> None:
    assert read(tmp_path, text).compliance.mode == mode


def test_switches_take_the_words_that_files_use(tmp_path: Path) -> None:
    text = "a2a: {streaming: off, push_notifications: no}\ndelegation: {escalate: yes}"
    config = read(tmp_path, text)
    assert (config.a2a.streaming, config.a2a.push_notifications, config.delegation.escalate) == (False, False, True)


# --- the model and its provider --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "model", "provider"),
    [
        ("model: openai:gpt-5", "openai:gpt-5", "openai"),
        ("model: google/gemini", "google/gemini", "google"),
        ("model: openrouter:anthropic/claude", "openrouter:anthropic/claude", "openrouter"),
        ("model: sonnet", "sonnet", ""),
        ("model: ''", DEFAULT_MODEL, "anthropic"),
        ("runtime_config: {model: openai:gpt-5}", "openai:gpt-5", "openai"),
        ("model: a:b\nruntime_config: {model: c:d}", "a:b", "a"),
        ("model: ''\nruntime_config: {model: c:d}", "c:d", "c"),
        ("model: a:b\nprovider: mine", "a:b", "mine"),
        ("model: a:b\nruntime_config: {provider: hers}", "a:b", "hers"),
        ("model: glm-5\nmodels: [{id: glm-5, provider: zai}]", "glm-5", "zai"),
        ("runtime_config: {model: glm-5, models: [{id: glm-5, provider: zai}]}", "glm-5", "zai"),
    ],
)
def test_there_is_one_model_with_its_provider_wherever_the_file_has_it(
    tmp_path: Path, text: str, model: str, provider: str
) -> None:
    config = read(tmp_path, text)
    assert (config.model, config.provider) == (model, provider)


def test_models_and_providers_may_stand_in_either_place(tmp_path: Path) -> None:
    rows = "models: [{id: a, name: A, required_env: [A_KEY]}, b]\nproviders: [{name: x, auth_env: [K]}, y]\n"
    inner = "runtime_config:\n" + "".join(f"  {line}\n" for line in rows.splitlines())
    for text in (rows, inner):
        config = read(tmp_path, text)
        assert [(row.id, row.required_env) for row in config.models] == [("a", ("A_KEY",)), ("b", ())]
        assert config.providers == ({"name": "x", "auth_env": ["K"]}, "y")


def test_two_models_that_differ_are_worth_a_word(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "model: a:b\nruntime_config:\n  model: c:d\n"), {})
    assert [(finding.code, finding.key, finding.line) for finding in loaded.findings] == [
        ("two-places", "runtime_config.model", 3)
    ]


def test_the_environment_names_the_model_over_the_file_in_the_contracts_order(tmp_path: Path) -> None:
    text = "model: file:m"
    assert read(tmp_path, text, MODEL_PROVIDER="c:m").model == "c:m"
    assert read(tmp_path, text, MODEL_PROVIDER="c:m", MODEL="b:m").model == "b:m"
    assert read(tmp_path, text, MODEL_PROVIDER="c:m", MODEL="b:m", MOLECULE_MODEL="a:m").model == "a:m"
    assert read(tmp_path, text, MOLECULE_MODEL=" ").model == "file:m"
    assert read(tmp_path, text, LLM_PROVIDER="p").provider == "p"
    assert read(tmp_path, "runtime_config: {model: x}", MODEL="b:m").model == "b:m"


def test_model_provider_is_an_old_name_and_says_so_once(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, ""), {"MODEL_PROVIDER": "c:m"})
    assert [(finding.severity, finding.code, finding.file) for finding in loaded.findings] == [
        ("warning", "deprecated", "environment variable MODEL_PROVIDER")
    ]
    assert "set MODEL instead" in str(loaded.findings[0])


@pytest.mark.parametrize(
    ("name", "value", "key", "expected"),
    [
        ("DELEGATION_RETRY_ATTEMPTS", "7", "delegation.retry_attempts", 7),
        ("DELEGATION_RETRY_DELAY", "0.5", "delegation.retry_delay", 0.5),
        ("DELEGATION_TIMEOUT", "300", "delegation.timeout", 300),
        ("SANDBOX_BACKEND", "docker", "sandbox.backend", "docker"),
        ("SANDBOX_MEMORY_LIMIT", "1g", "sandbox.memory_limit", "1g"),
        ("SANDBOX_TIMEOUT", "5", "sandbox.timeout", 5),
        ("LOG_LEVEL", "debug", "observability.log_level", "DEBUG"),
        ("MOLECULE_DELIVERY_MODE", "POLL", "a2a.delivery_mode", "poll"),
        ("MOLECULE_MODEL", "1.10", "model", "1.10"),
    ],
)
def test_a_variable_wins_over_the_file(tmp_path: Path, name: str, value: str, key: str, expected: object) -> None:
    file = "delegation: {retry_attempts: 1, timeout: 1}\nsandbox:\nobservability: {log_level: ERROR}\n"
    assert at(read(tmp_path, file, **{name: value}), key) == expected


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda override: ".".join(override.path))
def test_the_model_names_the_variables_that_win_over_each_key(override: Any) -> None:
    extra = annotation_at(WorkspaceConfig, override.path).json_schema_extra
    assert extra == {"x-environment": [variable.name for variable in override.variables]}


def test_a_variable_with_a_wrong_value_is_named_and_not_the_file(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "delegation: {timeout: 5}"), {"DELEGATION_TIMEOUT": "soon"})
    assert loaded.config is None
    assert errors(loaded) == [
        "environment variable DELEGATION_TIMEOUT: delegation.timeout must be a number above 0 (found 'soon'); correct or unset it"
    ]


# --- lists, rows and the adapter's own block -------------------------------------------------------------------------------


def test_skills_and_plugins_may_be_texts_or_mappings(tmp_path: Path) -> None:
    config = read(
        tmp_path, "skills: [a, {name: b, source: builtin, config: {x: 1}}]\nplugins: [p, {name: q, source: git}]"
    )
    assert config.skills == ("a", "b")
    assert [(plugin.name, plugin.source) for plugin in config.plugins] == [("p", ""), ("q", "git")]


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "''", "{source: builtin}"])
def test_a_skill_is_the_name_of_a_folder_and_never_a_path(tmp_path: Path, name: str) -> None:
    loaded = load(write(tmp_path, f"skills: [{name}]"), {})
    assert [finding.key for finding in loaded.errors] == ["skills[0]"]


def test_mcp_servers_keep_their_variables_as_text(tmp_path: Path) -> None:
    text = """
mcp_servers:
- {name: fs, command: npx, args: [-y, 1.10], env: {PORT: 8080, ON: yes}}
- {name: far, url: 'http://x', type: http}
"""
    local, far = read(tmp_path, text).mcp_servers
    assert (local.args, local.env) == (("-y", "1.10"), {"PORT": "8080", "ON": "yes"})
    assert (far.url, far.type) == ("http://x", "http")


def test_an_mcp_server_needs_a_name_and_a_way_to_reach_it(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "mcp_servers:\n- {name: x}\n- {command: y}\n"), {})
    assert [(finding.key, finding.line) for finding in loaded.errors] == [
        ("mcp_servers[0]", 2),
        ("mcp_servers[1].name", 3),
    ]


def test_an_adapter_gets_its_block_as_a_plain_dict_with_every_key(tmp_path: Path) -> None:
    text = """
runtime_config:
  model: anthropic:opus
  required_env: [A_KEY]
  timeout: 1e2
  gateway_port: 9000
  switch: on
  day: 2026-07-01
  nested: {deep: [1, two, null]}
"""
    block = read(tmp_path, text).runtime_config
    assert type(block) is dict
    assert block == {
        "model": "anthropic:opus",
        "required_env": ["A_KEY"],
        "timeout": 100.0,
        "gateway_port": 9000,
        "switch": True,
        "day": "2026-07-01",
        "nested": {"deep": [1, "two", None]},
    }


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("timeout: -1", "timeout"),
        ("timeout: soon", "timeout"),
        ("required_env: A_KEY", "required_env"),
        ("required_env: [not a name]", "required_env[0]"),
        ("effort: huge", "effort"),
        ("task_budget: 19999", "task_budget"),
        ("models: [{name: x}]", "models[0].id"),
    ],
)
def test_known_keys_of_the_adapters_block_are_checked(tmp_path: Path, line: str, key: str) -> None:
    loaded = load(write(tmp_path, f"runtime_config:\n  {line}\n"), {})
    assert [finding.key for finding in loaded.errors] == [f"runtime_config.{key}"]


def test_the_event_log_may_stand_in_observability(tmp_path: Path) -> None:
    assert read(tmp_path, "observability: {event_log: {ttl_seconds: 5}}").event_log.ttl_seconds == 5
    both = "event_log: {ttl_seconds: 7}\nobservability: {event_log: {ttl_seconds: 5}}"
    assert read(tmp_path, both).event_log.ttl_seconds == 7


def test_the_heartbeat_interval_is_clamped_with_a_word(tmp_path: Path) -> None:
    for written, taken in (("1", 5), ("900", 300), ("-1", 5)):
        loaded = load(write(tmp_path, f"observability:\n  heartbeat_interval_seconds: {written}\n"), {})
        assert loaded.config is not None
        assert loaded.config.observability.heartbeat_interval_seconds == taken
        assert [(finding.code, finding.line, finding.value) for finding in loaded.findings] == [("clamped", 2, written)]


def test_a_blank_runtime_is_what_the_contract_says(tmp_path: Path) -> None:
    assert read(tmp_path, "runtime: ''").runtime == "claude-code"
    assert read(tmp_path, "runtime:").runtime == "langgraph"
