"""Files as the templates ship them: each key set of contract `consumers.md` 3.2 loads, strictly and without a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from jsonschema import Draft202012Validator

from molecule_runtime.core.config import json_schema, load

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "name: {0} Agent\ndescription: An agent on {0}.\nversion: 1.0.0\ntier: 2\nruntime: {0}\ntemplate_schema_version: 1\n"

FRAGMENTS = {
    "model": "model: anthropic:claude-sonnet-4-6\n",
    "bare-model": "model: gpt-5.5\n",
    "models": """
models:
- id: anthropic:claude-sonnet-4-6
  name: Claude Sonnet
  required_env: [ANTHROPIC_API_KEY]
- {id: "openai:gpt-5.5", name: GPT, required_env: [OPENAI_API_KEY], provider: openai}
""",
    "runtime": """
runtime_config:
  model: sonnet
  required_env: [CLAUDE_CODE_OAUTH_TOKEN]
  timeout: 0
  provision_timeout_seconds: 1800
  models:
  - {id: sonnet, name: Sonnet, required_env: [CLAUDE_CODE_OAUTH_TOKEN]}
  - {id: glm-5, name: GLM, required_env: [GLM_API_KEY], provider: zai}
  providers: [anthropic-oauth, zai]
""",
    "runtime-small": "runtime_config:\n  model: gemini-2.5-pro\n  required_env: [GOOGLE_API_KEY]\n  timeout: 300\n",
    "runtime-knobs": """
runtime_config:
  model: opus
  effort: high
  task_budget: 20000
  context_window: 200000
  provider: anthropic
  required_env: []
""",
    "runtime-cli": "runtime_config:\n  command: claude\n  args: [--print]\n  timeout: 600\n",
    "providers-claude": """
providers:
- name: anthropic-oauth
  auth_mode: oauth
  model_prefixes: [claude]
  model_aliases: [opus, sonnet]
  base_url: null
  auth_env: [CLAUDE_CODE_OAUTH_TOKEN]
- {name: zai, auth_mode: third_party_anthropic_compat, base_url: "https://x", auth_env: [GLM], auth_token_env: T}
""",
    "providers-codex": """
providers:
- {name: sub, auth_mode: chatgpt_subscription, auth_env: [A], wire_api: responses, model_provider_slug: s, model_id_override: m}
""",
    "providers-hermes": "providers:\n"
    + "".join(
        f"- {{name: p{n}, model_prefixes: ['p{n}/'], base_url: 'https://p{n}.example', auth_env: [P{n}_KEY], notes: n}}\n"
        for n in range(34)
    ),
    "providers-openclaw": "providers:\n"
    + "".join(f"- {{name: o{n}, base_url: 'https://o{n}', auth_env: [O{n}]}}\n" for n in range(6)),
    "a2a": "a2a:\n  port: 8000\n  streaming: true\n  push_notifications: true\n",
    "delegation": "delegation:\n  retry_attempts: 3\n  retry_delay: 5\n  timeout: 120\n  escalate: true\n",
    "skills": "skills:\n- code-review\n- {name: update-docs, source: plugin, config: {level: 2}}\n",
    "no-skills": "skills: []\n",
    "tools": "tools: [delegation, memory, sandbox]\n",
    "prompt_files": "prompt_files:\n- system-prompt.md\n- SOUL.md\n",
    "env": "env:\n  required: [ANTHROPIC_API_KEY]\n  optional: [OPENAI_API_KEY, LANGFUSE_HOST]\n",
    "bridge": """
bridge:
  app_server_command: codex
  app_server_args: [app-server]
  hermes_api_base: http://127.0.0.1:8642/v1
  hermes_api_key_env: API_SERVER_KEY
  provider: openai
""",
    "mcp_servers": """
mcp_servers:
- {name: fs, command: npx, args: [-y, "@modelcontextprotocol/server-filesystem", /workspace], env: {DEBUG: 1}}
- {name: remote, type: http, url: "https://mcp.example/mcp"}
""",
    "plugins": "plugins:\n- ecc\n- {name: superpowers, source: 'github://x/y'}\n",
    "governance": "governance:\n  enabled: false\n  toolkit: microsoft\n  policy_mode: audit\n  blocked_patterns: []\n",
    "april": """
effort: medium
compliance: {mode: owasp_agentic, prompt_injection: block, max_tool_calls_per_task: 100}
observability: {heartbeat_interval_seconds: 30, log_level: INFO, event_log: {backend: memory, ttl_seconds: 3600, max_entries: 10000}}
security_scan: off
hitl: {channels: [{type: dashboard}, {type: slack, webhook_url: "https://hooks.example"}], default_timeout: 300, bypass_roles: [admin]}
memory: {backend: platform}
sandbox: {backend: docker, memory_limit: 512m, timeout: 60, cpu_limit: 0.5, network: false}
shared_context: [docs/plan.md]
sub_workspaces: [{name: child, config: child}]
initial_prompt: |
  Read your role.
  Then wait.
idle_prompt: Anything left to do?
idle_interval_seconds: 900
escalation: {to: parent}
rbac: {roles: [operator, reviewer], allowed_actions: {reviewer: [memory.read, approve]}}
""",
    "org-role": "role: triage-operator\ntemplate: claude-code\ngithub_repo: org/repo\nfiles_dir: triage-operator\n",
    "later": "schedules: [{name: daily, cron_expr: '0 9 * * *', enabled: true, prompt: Hi}]\nrecommended_env: [A, {any_of: [B, C]}]\n",
    "null-blocks": "a2a:\nruntime_config:\ndelegation:\nenv:\nskills:\ntools:\n",
}

COMMON = ("a2a", "delegation", "skills")
FILES = {
    "autogen": ("model", "models", "env", "a2a"),
    "autogen-april": ("model", "env"),
    "crewai": ("model", "models", "env", "a2a"),
    "crewai-april": ("model", "env"),
    "deepagents": ("model", "models", "env", "tools", *COMMON),
    "deepagents-april": ("model", "env", "tools", "delegation", "skills"),
    "langgraph": ("model", "tools", "prompt_files", *COMMON),
    "langgraph-april": ("model", "tools", "delegation", "no-skills"),
    "langgraph-full": ("model", "tools", "april", *COMMON),
    "langgraph-null": ("model", "null-blocks"),
    "openclaw": ("bare-model", "runtime-small", "providers-openclaw", "prompt_files", "a2a"),
    "openclaw-april": ("bare-model", "env", "prompt_files"),
    "openclaw-models": ("bare-model", "models", "prompt_files", "a2a"),
    "claude-code": ("runtime", "providers-claude", "a2a", "no-skills"),
    "claude-code-knobs": ("runtime-knobs", "providers-claude", "mcp_servers", "a2a"),
    "claude-code-april": ("runtime-cli", "bare-model", *COMMON),
    "claude-code-plugins": ("runtime", "plugins", "mcp_servers", "a2a"),
    "claude-code-org": ("runtime", "org-role", "a2a"),
    "codex": ("runtime", "providers-codex", "bridge", *COMMON),
    "codex-april": ("runtime-cli", "delegation"),
    "codex-later": ("runtime", "providers-codex", "plugins", "later", *COMMON),
    "hermes": ("runtime", "providers-hermes", "bridge", *COMMON),
    "hermes-small": ("runtime-small", "bridge", *COMMON),
    "hermes-knobs": ("runtime-knobs", "providers-hermes", *COMMON),
    "google-adk": ("runtime-small", "models", "env", "prompt_files", "a2a"),
    "google-adk-skills": ("runtime-small", "env", "prompt_files", "skills", "a2a"),
    "gemini-cli": ("runtime-small", "models", "mcp_servers", "a2a"),
    "gemini-cli-april": ("runtime-cli", "models", *COMMON),
    "gemini-cli-governance": ("runtime-small", "governance", "a2a"),
    "smolagents": ("model", "governance", "april", "a2a"),
    "external": ("bare-model",),
    "minimal": (),
}


def text_of(name: str) -> str:
    return HEAD.format(name.partition("-")[0]) + "".join(FRAGMENTS[fragment] for fragment in FILES[name])


def test_there_are_as_many_samples_as_template_files() -> None:
    assert len(FILES) == 32
    assert set(FRAGMENTS) == {fragment for fragments in FILES.values() for fragment in fragments}


@pytest.mark.parametrize("name", FILES)
def test_a_templates_file_loads_strictly_without_a_finding(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.yaml").write_text(text_of(name), encoding="utf-8")
    loaded = load(tmp_path, {}, strict=True)
    # openclaw ships both models, and they differ in this sample as they may in a real one.
    expected = ["two-places"] if name == "openclaw" else []
    assert [finding.code for finding in loaded.findings] == expected, [str(finding) for finding in loaded.findings]
    assert loaded.config is not None
    assert loaded.config.model
    assert loaded.config.runtime == name.partition("-")[0]


@pytest.mark.parametrize("name", FILES)
def test_an_adapter_reads_the_same_block_as_from_the_file_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.yaml").write_text(text_of(name), encoding="utf-8")
    config = load(tmp_path, {}).config
    assert config is not None
    raw = cast("dict[str, Any]", yaml.safe_load(text_of(name)))
    assert config.runtime_config == (raw.get("runtime_config") or {})
    inner = cast("dict[str, Any]", raw.get("runtime_config") or {})
    assert list(config.providers) == (raw.get("providers") or inner.get("providers") or [])


@pytest.mark.parametrize("name", FILES)
def test_an_editor_with_the_schema_accepts_the_file_too(name: str) -> None:
    validator: Any = Draft202012Validator(json_schema())
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text_of(name)))] == []
