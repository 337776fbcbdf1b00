"""The blocks of `config.yaml`: the mappings below its top level (contract `workspace-host.md` 6 and `consumers.md` 3.2)."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WrapValidator, model_validator

from molecule_runtime.core.config.values import (
    AnyCase,
    Clamped,
    Count,
    Effort,
    Frozen,
    LogLevel,
    Port,
    ScalarOr,
    Seconds,
    SecondsOrNone,
    Text,
    Texts,
    VariableName,
    VariableNames,
    Whatever,
)
from molecule_runtime.core.first_use import BUILT_ON_FIRST_USE

MIN_TASK_BUDGET = 20_000
"""Tokens; contract `consumers.md` 3.2."""

HEARTBEAT_RANGE = (5.0, 300.0)
"""Seconds; contract `runtime.md` 8."""


class Block(BaseModel):
    """A mapping of known keys. Real files carry keys of other tools and versions: those are kept, never fatal."""

    model_config = ConfigDict(
        frozen=True, extra="allow", strict=True, allow_inf_nan=False, defer_build=BUILT_ON_FIRST_USE
    )

    open_keys: ClassVar[bool] = False
    """Others put keys of their own here, so that an unknown key is worth a word only when it looks like a slip of the pen."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, data: object) -> object:
        """A known key that is present but null means its default."""
        if not isinstance(data, dict):
            return data
        values = cast("dict[object, object]", data)
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in values.items() if value is not None or key not in known}


class ModelEntry(Block):
    """One row of `models`: a model that people may choose. A text stands for its `id`."""

    open_keys: ClassVar[bool] = True

    id: Text
    """The model, as the adapter expects it."""
    name: Text = ""
    """Its name for people."""
    provider: Text = ""
    """Its provider, where the id does not begin with it."""
    required_env: VariableNames = ()
    """Environment variables that the model needs."""


Models = Annotated[Sequence[Annotated[ModelEntry, ScalarOr("id")]], Frozen]


def _task_budget(value: int) -> int:
    if 0 < value < MIN_TASK_BUDGET:
        raise ValueError(f"must be 0 for none, or at least {MIN_TASK_BUDGET}")
    return value


TaskBudget = Annotated[int, Field(ge=0), AfterValidator(_task_budget)]


class RuntimeConfig(Block):
    """`runtime_config`: settings of the adapter, which gets the mapping as it stands. Other keys are the adapter's own."""

    open_keys: ClassVar[bool] = True

    model: Text = ""
    """The model, where the top level names none."""
    provider: Text = ""
    """The provider, where the top level names none."""
    models: Models = ()
    """The models to choose from, where the top level lists none."""
    providers: Whatever = ()
    """The providers, where the top level lists none; read by adapters only."""
    required_env: VariableNames = ()
    """Environment variables without which the workspace does not start."""
    timeout: SecondsOrNone = 0
    """Seconds for one turn; 0 is no limit."""
    provision_timeout_seconds: Annotated[int, Field(ge=0)] = 0
    """Seconds that the platform waits for the workspace to come up; 0 is the platform's own limit."""
    command: Text = ""
    """The program that a command-line adapter runs."""
    args: Texts = ()
    """Its arguments."""
    effort: Effort = ""
    """How much a model may think."""
    task_budget: TaskBudget = 0
    """Tokens for one task, at least 20000; 0 is no budget."""
    context_window: Annotated[int, Field(ge=0)] = 0
    """Tokens of the model's context; 0 is the adapter's own figure."""
    auth_token_env: Annotated[VariableName | None, Field(deprecated="use required_env")] = None
    """Older form of `required_env`: one variable that holds a token."""
    auth_token_file: Annotated[Text, Field(deprecated="use required_env")] = ""
    """Older form of `required_env`: a file that holds a token, relative to the folder."""


class EnvConfig(Block):
    """`env`: the environment variables of the workspace."""

    required: VariableNames = ()
    """Without one of these the workspace does not start."""
    optional: VariableNames = ()
    """These are used when they are set."""


class TasksConfig(Block):
    """`a2a.tasks`: what the host remembers of the messages that it answered."""

    store: Annotated[Literal["disk", "memory"], AnyCase] = "disk"
    """Where: in the folder of the token, or in memory until the process ends."""
    max_age_hours: Annotated[float, Field(gt=0, le=8760)] = 168.0
    """For how long a task that ended can be asked for, and a message that is sent again gets the answer that it had."""
    max_finished: Count = 1000
    """Tasks that ended and are kept; the oldest go first."""
    max_megabytes: Count = 64
    """Of all of them together."""


class TurnsConfig(Block):
    """`a2a.turns`: what becomes of messages in a conversation in which the agent is at work."""

    busy: Annotated[Literal["wait", "interrupt"], AnyCase] = "wait"
    """Whether they wait for the turn that runs, or stop it; it begins anew then, with all of them."""
    max_waiting: Count = 16
    """Messages that wait in one conversation; more are rejected."""
    idle_seconds: Annotated[float, Field(ge=0)] = Field(
        default=0.0, json_schema_extra={"x-environment": ["A2A_COMPLETION_IDLE_TIMEOUT_SECONDS"]}
    )
    """Seconds without a word of the agent after which its turn has failed; 0 for no limit."""


class A2AConfig(Block):
    """`a2a`: this workspace's A2A server."""

    port: Port = 8000
    """Port of the A2A server."""
    streaming: bool = True
    """Offer message/stream."""
    push_notifications: bool = True
    """Offer push notification configs."""
    push_targets: Texts = ()
    """Hosts, or networks such as 10.0.0.0/8, that may be sent push notifications though their addresses are not public."""
    delivery_mode: Annotated[Literal["push", "poll"], AnyCase] | None = Field(
        default=None, json_schema_extra={"x-environment": ["MOLECULE_DELIVERY_MODE"]}
    )
    """How the platform delivers messages; push when nothing says otherwise."""
    inbound_auth: Annotated[Literal["none", "bearer", "platform"], AnyCase] = "none"
    """Who may send messages: everybody, holders of `MOLECULE_A2A_TOKEN`, or the platform with its inbound secret."""
    allowed_hosts: Texts = ()
    """Names under which this workspace is reached, besides addresses, its own names and names of private networks."""
    max_requests: Count = 128
    """A2A requests served at once; more are told to come back."""
    tasks: TasksConfig = TasksConfig()
    """What the host remembers of the messages that it answered."""
    turns: TurnsConfig = TurnsConfig()
    """What becomes of messages in a conversation in which the agent is at work."""


class DelegationConfig(Block):
    """`delegation`: how work is given to other agents."""

    retry_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, json_schema_extra={"x-environment": ["DELEGATION_RETRY_ATTEMPTS"]}
    )
    """Attempts to deliver a task."""
    retry_delay: Annotated[float, Field(ge=0)] = Field(
        default=5.0, json_schema_extra={"x-environment": ["DELEGATION_RETRY_DELAY"]}
    )
    """Seconds between attempts."""
    timeout: Seconds = Field(default=120.0, json_schema_extra={"x-environment": ["DELEGATION_TIMEOUT"]})
    """Seconds to wait for an answer."""
    escalate: bool = True
    """Tell the parent when a delegation fails."""


class SandboxConfig(Block):
    """`sandbox`: where `run_code` runs."""

    backend: Annotated[Literal["bubblewrap", "docker", "e2b", "none", "subprocess"], AnyCase] = Field(
        default="bubblewrap", json_schema_extra={"x-environment": ["SANDBOX_BACKEND"]}
    )
    """What isolates the code; none is no isolation, and subprocess an older name of bubblewrap."""
    memory_limit: Annotated[Text, Field(pattern=r"^[0-9]+[bkmgBKMG]?$")] = Field(
        default="256m", json_schema_extra={"x-environment": ["SANDBOX_MEMORY_LIMIT"]}
    )
    """Memory, such as 256m or 1g."""
    timeout: Seconds = Field(default=30.0, json_schema_extra={"x-environment": ["SANDBOX_TIMEOUT"]})
    """Seconds for one run."""
    cpu_limit: Annotated[float, Field(gt=0)] | None = None
    """Processors that a run may use."""
    network: bool | None = None
    """Whether a run may use the network."""


class RbacConfig(Block):
    """`rbac`: which tool actions this workspace may use."""

    roles: Texts = ("operator",)
    """Roles of this workspace."""
    allowed_actions: dict[str, Texts] = Field(default_factory=dict[str, Sequence[str]])
    """Custom roles: name to actions; a role of a built-in name replaces it."""


class HitlChannel(Block):
    """One row of `hitl.channels`: where people are asked."""

    open_keys: ClassVar[bool] = True

    type: Annotated[Literal["dashboard", "slack", "email"], AnyCase] = "dashboard"
    """The kind of channel."""
    webhook_url: Text = ""
    """Slack: where to post."""
    smtp_host: Text = ""
    """E-mail: the server."""
    smtp_port: Port = 587
    """E-mail: its port."""
    from_: Annotated[Text, Field(alias="from")] = ""
    """E-mail: the sender."""
    to: Text = ""
    """E-mail: the recipient."""
    username: Text = ""
    """E-mail: the account."""
    password: Annotated[Text, Field(repr=False)] = ""
    """E-mail: better given as SMTP_PASSWORD."""


class HitlConfig(Block):
    """`hitl`: how people approve what an agent wants to do."""

    channels: Annotated[Sequence[Annotated[HitlChannel, ScalarOr("type")]], Frozen] = (HitlChannel(),)
    """Where people are asked; a text stands for its `type`."""
    default_timeout: Seconds = 300.0
    """Seconds until a request for approval lapses."""
    bypass_roles: Texts = ()
    """Roles that need no approval."""


class GovernanceConfig(Block):
    """`governance`: an external policy engine."""

    enabled: bool = False
    """Ask the policy engine."""
    toolkit: Text = "microsoft"
    """Which policy engine."""
    policy_endpoint: Text = ""
    """URL of a policy service."""
    policy_mode: Annotated[Literal["strict", "permissive", "audit"], AnyCase] = "audit"
    """Enforce a denial, or only record it."""
    policy_file: Text = ""
    """Policy file, relative to the folder."""
    blocked_patterns: Texts = ()
    """Patterns that a tool call must not match."""
    max_tool_calls_per_task: Count = 50
    """Tool calls in one task."""


class SecurityScanConfig(Block):
    """`security_scan`: checks of a skill's dependencies. A text stands for its `mode`."""

    mode: Annotated[Literal["block", "warn", "off"], AnyCase] = "warn"
    """What a finding does."""
    fail_open_if_no_scanner: bool = True
    """Load skills when no scanner is installed."""


def _compliance_mode(value: object) -> object:
    lowered = value.strip().lower() if isinstance(value, str) else "off" if value is False else value
    return "" if lowered in {"off", "none"} else lowered


class ComplianceConfig(Block):
    """`compliance`: limits on what an agent may do. A text stands for its `mode`."""

    mode: Annotated[
        Literal["owasp_agentic", ""], WrapValidator(lambda value, check: check(_compliance_mode(value)))
    ] = "owasp_agentic"
    """The rule set; off (or empty) is none."""
    prompt_injection: Annotated[Literal["detect", "block"], AnyCase] = "detect"
    """What a suspected prompt injection does."""
    max_tool_calls_per_task: Count = 50
    """Tool calls in one task."""
    max_task_duration_seconds: Count = 300
    """Seconds for one task."""


class EventLogConfig(Block):
    """`event_log`: the agent's own record of what happened."""

    backend: Text = "memory"
    """Where it is kept."""
    ttl_seconds: Count = 3600
    """Seconds that an entry is kept."""
    max_entries: Count = 10_000
    """Entries that are kept."""


class ObservabilityConfig(Block):
    """`observability`: heartbeats and logs."""

    heartbeat_interval_seconds: Annotated[float, Clamped(*HEARTBEAT_RANGE)] = 30.0
    """Seconds between heartbeats; clamped to 5 to 300."""
    log_level: LogLevel = Field(default="INFO", json_schema_extra={"x-environment": ["LOG_LEVEL"]})
    """Log level."""
    event_log: EventLogConfig = EventLogConfig()
    """The same block as `event_log`, which wins."""


class McpServer(Block):
    """One row of `mcp_servers`."""

    open_keys: ClassVar[bool] = True

    name: Text
    """Its name."""
    command: Text = ""
    """The program to start."""
    args: Texts = ()
    """Its arguments."""
    env: dict[str, Text] = Field(default_factory=dict[str, str], repr=False)
    """Its environment variables."""
    url: Text = ""
    """Its address, where it runs elsewhere."""
    type: Text = ""
    """Its transport."""
    headers: dict[str, Text] = Field(default_factory=dict[str, str], repr=False)
    """Headers for its address."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if not self.command and not self.url:
            raise ValueError("must have a 'command' to start it, or a 'url'")
        return self


class PluginEntry(Block):
    """One row of `plugins`. A text stands for its `name`."""

    open_keys: ClassVar[bool] = True

    name: Text = ""
    """Its name."""
    source: Text = ""
    """Where it comes from."""

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if not self.name and not self.source:
            raise ValueError("must have a 'name' or a 'source'")
        return self


class BridgeConfig(Block):
    """`bridge`: settings of the codex and hermes templates."""

    open_keys: ClassVar[bool] = True

    app_server_command: Text = ""
    """The app server to start."""
    app_server_args: Texts = ()
    """Its arguments."""
    hermes_api_base: Text = ""
    """Base URL of hermes' API."""
    hermes_api_key_env: Annotated[VariableName | None, Field()] = None
    """Variable that holds hermes' key."""
    provider: Text = ""
    """The provider that the bridge uses."""
