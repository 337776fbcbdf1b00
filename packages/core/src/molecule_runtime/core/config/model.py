"""The model of `config.yaml`: every key, its type, its default and its meaning, once (contract `workspace-host.md` 6).

The JSON Schema and the table in the README are made from it, so a key is added here and nowhere else.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Field, WrapValidator, model_validator

from molecule_runtime.core.config.blocks import (
    A2AConfig,
    Block,
    BridgeConfig,
    ComplianceConfig,
    DelegationConfig,
    EnvConfig,
    EventLogConfig,
    GovernanceConfig,
    HitlConfig,
    McpServer,
    Models,
    ObservabilityConfig,
    PluginEntry,
    RbacConfig,
    RuntimeConfig,
    SandboxConfig,
    SecurityScanConfig,
    TaskBudget,
)
from molecule_runtime.core.config.values import Count, Effort, Frozen, ScalarOr, SkillName, Text, Texts, Whatever

DEFAULT_MODEL = "anthropic:claude-opus-4-7"
"""Contract `runtime.md` 17."""

DEFAULT_PROMPT_FILE = "system-prompt.md"
"""The prompt file of a workspace that names none (contract `consumers.md` 3.2)."""

BLANK_RUNTIME = "claude-code"
"""What `runtime: ""` means, unlike an absent key; contract `runtime.md` 17."""

if TYPE_CHECKING:
    RuntimeConfigDict = dict[str, Any]
else:
    # Checked as RuntimeConfig and handed out as it came: adapters read a plain dict (contract `consumers.md` 3.2).
    RuntimeConfigDict = Annotated[RuntimeConfig, WrapValidator(lambda value, check: (check(value), dict(value))[1])]


class WorkspaceConfig(Block):
    """A workspace's `config.yaml`, with the environment applied. Frozen: it is loaded once and passed down."""

    name: Text = "Workspace"
    """Name of the workspace."""
    description: Text = ""
    """One sentence on what the agent does."""
    role: Text = ""
    """Role of the agent in its team."""
    version: Text = "1.0.0"
    """Version on the agent card; text, exactly as written."""
    tier: Annotated[int, Field(ge=0)] = 1
    """Tier; 0 is an org root."""
    template_schema_version: Count = 1
    """Version of the template's layout."""
    runtime: Text = "langgraph"
    """Runtime key; names an installed adapter when ADAPTER_MODULE is unset."""
    runtime_config: RuntimeConfigDict = Field(default_factory=dict, repr=False)
    """Settings of the adapter."""
    model: Text = Field(
        default=DEFAULT_MODEL, json_schema_extra={"x-environment": ["MOLECULE_MODEL", "MODEL", "MODEL_PROVIDER"]}
    )
    """Model as provider:model; may stand in runtime_config instead."""
    provider: Text = Field(default="", json_schema_extra={"x-environment": ["LLM_PROVIDER"]})
    """Provider of the model; else that of its row in `models`, else what stands before : or / in the model."""
    models: Models = ()
    """The models to choose from; may stand in runtime_config instead."""
    providers: Whatever = ()
    """Providers, read by adapters only; may stand in runtime_config instead."""
    effort: Effort = ""
    """How much a model may think."""
    task_budget: TaskBudget = 0
    """Tokens for one task, at least 20000; 0 is no budget."""
    skills: Annotated[Sequence[SkillName], Frozen] = ()
    """Skills of this workspace: folders below skills/, or mappings with a `name`."""
    tools: Texts = ()
    """Tools of this workspace."""
    plugins: Annotated[Sequence[Annotated[PluginEntry, ScalarOr("name")]], Frozen] = ()
    """Plugins of this workspace."""
    mcp_servers: Annotated[Sequence[McpServer], Frozen] = ()
    """MCP servers for the agent."""
    prompt_files: Texts = ()
    """Prompt files in the folder; system-prompt.md when none is named. MEMORY.md and USER.md are added when present."""
    shared_context: Texts = ()
    """Files that child workspaces may read."""
    initial_prompt: Text = ""
    """First message to the agent, once."""
    initial_prompt_file: Text = ""
    """File with the first message, relative to the folder; `initial_prompt` wins."""
    idle_prompt: Text = ""
    """Message to an idle agent."""
    idle_prompt_file: Text = ""
    """File with the message to an idle agent, relative to the folder; `idle_prompt` wins."""
    idle_interval_seconds: Count = 600
    """Seconds between messages to an idle agent."""
    env: EnvConfig = EnvConfig()
    """Environment variables that the workspace needs."""
    a2a: A2AConfig = A2AConfig()
    """The A2A server."""
    delegation: DelegationConfig = DelegationConfig()
    """Work given to other agents."""
    sandbox: SandboxConfig = SandboxConfig()
    """Where code runs."""
    rbac: RbacConfig = RbacConfig()
    """What the tools may do."""
    hitl: HitlConfig = HitlConfig()
    """Approval by people."""
    governance: GovernanceConfig = GovernanceConfig()
    """An external policy engine."""
    security_scan: Annotated[SecurityScanConfig, ScalarOr("mode")] = SecurityScanConfig()
    """Checks of a skill's dependencies: block, warn, off, or a mapping."""
    compliance: Annotated[ComplianceConfig, ScalarOr("mode")] = ComplianceConfig()
    """Limits on the agent."""
    observability: ObservabilityConfig = ObservabilityConfig()
    """Heartbeats and logs."""
    event_log: EventLogConfig = EventLogConfig()
    """The agent's own record; may stand in observability instead."""
    bridge: BridgeConfig = BridgeConfig()
    """Settings of the codex and hermes templates."""
    memory: dict[str, Any] = Field(default_factory=dict[str, Any], repr=False)
    """Settings of a memory backend; kept as they are."""
    escalation: Any = None
    """Kept as it is."""
    sub_workspaces: Whatever = ()
    """Child workspaces; read by the platform."""
    schedules: Whatever = ()
    """Schedules; read by the platform."""
    recommended_env: Whatever = ()
    """Variables that the platform suggests to set."""
    template: Text = ""
    """Template that an org role comes from."""
    github_repo: Text = ""
    """Repository of an org role."""
    files_dir: Text = ""
    """Folder with the files of an org role."""

    @model_validator(mode="before")
    @classmethod
    def _one_place(cls, data: object) -> object:
        """Resolve what may stand in two places, and the provider of the model."""
        if not isinstance(data, dict):
            return data
        values = dict(cast("dict[str, Any]", data))
        inner = _mapping(values.get("runtime_config"))
        for key in ("model", "provider", "models", "providers"):
            if values.get(key) in (None, "", [], ()) and inner.get(key) not in (None, "", [], ()):
                values[key] = inner[key]
        logged = _mapping(values.get("observability")).get("event_log")
        if values.get("event_log") is None and logged is not None:
            values["event_log"] = logged
        if values.get("provider") in (None, ""):
            values["provider"] = _provider(values.get("model") or DEFAULT_MODEL, values.get("models"))
        # Blank means unset: a template that leaves the model to the environment writes `model: ""`.
        for key in ("model", "name"):
            if values.get(key) == "":
                del values[key]
        if values.get("runtime") == "":
            values["runtime"] = BLANK_RUNTIME
        return values


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _provider(model: object, models: object) -> str:
    """Return the provider of a model: its row in `models`, else what stands before the first `:` or `/`."""
    if not isinstance(model, str):
        return ""
    rows = cast("list[object]", models) if isinstance(models, list) else []
    for row in rows:
        entry = _mapping(row)
        provider = entry.get("provider")
        if entry.get("id") == model and isinstance(provider, str) and provider:
            return provider
    ends = [model.index(mark) for mark in ":/" if mark in model]
    return model[: min(ends)] if ends else ""
