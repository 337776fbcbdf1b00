"""Every environment variable of molecule-runtime: its name, default and meaning, once.

Nothing here reads the environment on import. A process reads it in its `main()` and passes settings down.
Names are those of the contract (`runtime.md` 16).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


Kind = Literal["text", "url", "path", "number", "flag", "choice", "json"]
"""What a value must look like. A flag takes anything: see `Variable.flag`."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable.

    Attributes:
        name: as it stands in the environment.
        meaning: one sentence for `--help` and the README.
        default: used when the variable is absent or blank.
        secret: the value must never be printed.
        kind: what a value must look like.
        choices: of a `choice`, in lower case; any case counts.
        minimum: of a `number`.
        maximum: of a `number`.
    """

    name: str
    meaning: str
    default: str = ""
    secret: bool = False
    kind: Kind = "text"
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def get(self, environ: Mapping[str, str] | None = None) -> str:
        """Return the stripped value, or the default when it is absent or blank."""
        value = (os.environ if environ is None else environ).get(self.name, "").strip()
        return value or self.default

    def is_set(self, environ: Mapping[str, str] | None = None) -> bool:
        """Tell whether the variable is present and not blank."""
        return bool((os.environ if environ is None else environ).get(self.name, "").strip())

    def flag(self, environ: Mapping[str, str] | None = None) -> bool:
        """Read a switch: anything but blank, `0`, `false`, `no` and `off` turns it on."""
        return self.get(environ).lower() not in {"", "0", "false", "no", "off"}

    def problem(self, environ: Mapping[str, str] | None = None) -> str | None:
        """Say what is wrong with a value that is set, with its remedy, or None. Never shows a secret."""
        if not self.is_set(environ):
            return None
        value = self.get(environ)
        wanted = ""
        match self.kind:
            case "url" if not value.lower().startswith(("http://", "https://")):
                wanted = "a URL that begins with http:// or https://"
            case "choice" if value.lower() not in self.choices:
                wanted = f"one of {', '.join(self.choices)}"
            case "number" if not self._is_number(value):
                bounds = [f"at least {self.minimum:g}" if self.minimum is not None else ""]
                bounds.append(f"at most {self.maximum:g}" if self.maximum is not None else "")
                wanted = " ".join(["a number", " and ".join(bound for bound in bounds if bound)]).rstrip()
            case "json" if not self._is_json(value):
                wanted = "JSON"
            case _:
                return None
        # Late: most processes never need it, and it costs more than the rest of this module.
        from molecule_runtime.core.redaction import redact_text

        shown = "its value (not shown)" if self.secret else repr(redact_text(value))[:80]
        return f"{self.name} is {shown}; it must be {wanted}"

    def _is_number(self, value: str) -> bool:
        try:
            number = float(value)
        except ValueError:
            return False
        return (self.minimum is None or number >= self.minimum) and (self.maximum is None or number <= self.maximum)

    def _is_json(self, value: str) -> bool:
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            return False
        return True


def problems(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return what is wrong with every variable that is set, all at once. A process asks once, in its `main()`."""
    return [problem for variable in ALL if (problem := variable.problem(environ)) is not None]


def current() -> Mapping[str, str]:
    """Return the process environment; the only place that hands it out whole."""
    return os.environ


WORKSPACE_ID = Variable("WORKSPACE_ID", "Id of the one workspace this process serves.")
MOLECULE_WORKSPACES = Variable(
    "MOLECULE_WORKSPACES",
    'JSON array of {"id", "token" or "token_file", "platform_url"} to serve several workspaces at once; wins over WORKSPACE_ID.',
    secret=True,
    kind="json",
)
MOLECULE_WORKSPACES_FILE = Variable(
    "MOLECULE_WORKSPACES_FILE",
    "File (0600) that holds such an array; its workspaces are served beside the others, and molecule-mcp follows its changes.",
    kind="path",
)
MOLECULE_WORKSPACE_TOKEN = Variable("MOLECULE_WORKSPACE_TOKEN", "Token of WORKSPACE_ID.", secret=True)
MOLECULE_WORKSPACE_TOKEN_FILE = Variable(
    "MOLECULE_WORKSPACE_TOKEN_FILE", "File that holds the token of WORKSPACE_ID.", kind="path"
)
PLATFORM_URL = Variable("PLATFORM_URL", "URL of the platform, for workspaces that name none of their own.", kind="url")
MOLECULE_ORG_ID = Variable("MOLECULE_ORG_ID", "Organisation id, sent as X-Molecule-Org-Id to PLATFORM_URL.")
MOLECULE_ORGANIZATION_ID = Variable("MOLECULE_ORGANIZATION_ID", "Older spelling of MOLECULE_ORG_ID.")
CONFIGS_DIR = Variable(
    "CONFIGS_DIR",
    "Folder for tokens and state; default /configs where writable, else ~/.molecule-workspace.",
    kind="path",
)
WORKSPACE_CONFIG_PATH = Variable(
    "WORKSPACE_CONFIG_PATH", "Folder that holds config.yaml.", default="/configs", kind="path"
)
ADAPTER_MODULE = Variable("ADAPTER_MODULE", "Python module that defines the workspace's Adapter class.")
MOLECULE_WORKSPACE_URL = Variable(
    "MOLECULE_WORKSPACE_URL", "URL under which the platform reaches this workspace.", kind="url"
)
MOLECULE_BIND_HOST = Variable("MOLECULE_BIND_HOST", "Address that molecule-runtime listens on.", default="0.0.0.0")  # noqa: S104
MOLECULE_DELIVERY_MODE = Variable(
    "MOLECULE_DELIVERY_MODE",
    "push or poll: how the platform delivers messages to this workspace.",
    kind="choice",
    choices=("push", "poll"),
)
MOLECULE_A2A_TOKEN = Variable(
    "MOLECULE_A2A_TOKEN", "Secret that senders of A2A messages show where a2a.inbound_auth is bearer.", secret=True
)
MOLECULE_A2A_TOKEN_FILE = Variable(
    "MOLECULE_A2A_TOKEN_FILE", "File that holds that secret; it wins over MOLECULE_A2A_TOKEN.", kind="path"
)
MOLECULE_A2A_REQUIRE_AUTH = Variable(
    "MOLECULE_A2A_REQUIRE_AUTH",
    "Take A2A messages only with the platform's inbound secret, where a2a.inbound_auth asks for nothing.",
    kind="flag",
)
MOLECULE_DISABLE_IMAGE_INLINING = Variable(
    "MOLECULE_DISABLE_IMAGE_INLINING",
    "Give models the path of an image instead of the image, in templates that call build_user_content_with_files.",
    kind="flag",
)
AGENT_SNAPSHOT_PATH = Variable(
    "AGENT_SNAPSHOT_PATH",
    "File for what an agent takes over a restart; default .agent_snapshot.json in CONFIGS_DIR.",
    kind="path",
)
MOLECULE_SMOKE_MODE = Variable(
    "MOLECULE_SMOKE_MODE",
    "1, true, yes or on: run one turn of the adapter without a platform, and exit 1 only for what cannot be imported.",
    kind="flag",
)
MOLECULE_SMOKE_TIMEOUT_SECS = Variable(
    "MOLECULE_SMOKE_TIMEOUT_SECS", "Seconds of that turn; anything but a positive number means 5.", default="5"
)
MODEL = Variable("MODEL", "Model of the workspace, over config.yaml.")
MOLECULE_MODEL = Variable("MOLECULE_MODEL", "Model of the workspace, over MODEL and config.yaml.")
MODEL_PROVIDER = Variable("MODEL_PROVIDER", "Deprecated name of MODEL (it holds a model id).")
LLM_PROVIDER = Variable("LLM_PROVIDER", "Provider of the model, over config.yaml.")
ANTHROPIC_BASE_URL = Variable("ANTHROPIC_BASE_URL", "Reported by get_runtime_identity.", kind="url")
TIER = Variable("TIER", "Tier of the workspace, reported by get_runtime_identity.")
WORKSPACE_TIER = Variable(
    "WORKSPACE_TIER",
    "Tier of the workspace where config.yaml names none: 0, a root workspace, may store GLOBAL memories.",
    default="1",
    kind="number",
    minimum=0,
)
MOLECULE_FILES_DIR = Variable(
    "MOLECULE_FILES_DIR",
    "Folder whose files an agent may send to people; default /workspace, else the folder that molecule-mcp was started in.",
    kind="path",
)
LOG_LEVEL = Variable(
    "LOG_LEVEL",
    "Log level of this process: DEBUG, INFO, WARNING or ERROR.",
    kind="choice",
    choices=("debug", "info", "warning", "error", "critical"),
)
LOG_FORMAT = Variable("LOG_FORMAT", "text or json.", default="text", kind="choice", choices=("text", "json"))
MOLECULE_AGENT_NAME = Variable("MOLECULE_AGENT_NAME", "Name on the agent card of molecule-mcp.")
MOLECULE_AGENT_DESCRIPTION = Variable("MOLECULE_AGENT_DESCRIPTION", "Description on the agent card of molecule-mcp.")
MOLECULE_AGENT_SKILLS = Variable(
    "MOLECULE_AGENT_SKILLS", "Comma list of skill names on the agent card of molecule-mcp."
)
MOLECULE_MCP_VERBOSE = Variable("MOLECULE_MCP_VERBOSE", "Log at INFO instead of WARNING.", kind="flag")
MOLECULE_MCP_DISABLE_HEARTBEAT = Variable(
    "MOLECULE_MCP_DISABLE_HEARTBEAT", "Do not register or heartbeat.", kind="flag"
)
MOLECULE_MCP_DISABLE_INBOX = Variable("MOLECULE_MCP_DISABLE_INBOX", "Do not poll the inbox.", kind="flag")
MOLECULE_MCP_PUSH = Variable(
    "MOLECULE_MCP_PUSH",
    "How messages are pushed to the MCP client: claude, openclaw, cursor, hermes, off, or auto to tell it from the client.",
    default="auto",
    kind="choice",
    choices=("auto", "claude", "openclaw", "cursor", "hermes", "off"),
)
CLAUDECODE = Variable("CLAUDECODE", "Set by Claude Code for what it starts.")
CLAUDE_CODE = Variable("CLAUDE_CODE", "Set by some versions of Claude Code.")
CLAUDE_CODE_VERSION = Variable("CLAUDE_CODE_VERSION", "Set by some versions of Claude Code.")
OPENCLAW_SESSION_ID = Variable("OPENCLAW_SESSION_ID", "Set by OpenClaw for what it starts.")
OPENCLAW_GATEWAY_PORT = Variable("OPENCLAW_GATEWAY_PORT", "Set by OpenClaw for what it starts.")
CURSOR_MCP = Variable("CURSOR_MCP", "Set by Cursor for MCP servers.")
CURSOR_TRACE_ID = Variable("CURSOR_TRACE_ID", "Set by Cursor for what it starts.")
HERMES_RUNTIME = Variable("HERMES_RUNTIME", "Set by hermes for what it starts.")
HERMES_WORKSPACE_ID = Variable("HERMES_WORKSPACE_ID", "Set by hermes for what it starts.")
MOLECULE_CHAT_UPLOAD_DIR = Variable(
    "MOLECULE_CHAT_UPLOAD_DIR",
    "Folder for files that people send; default is the folder uploads beside the inbox file.",
    kind="path",
)
MOLECULE_MCP_POLL_TIMEOUT_SECS = Variable(
    "MOLECULE_MCP_POLL_TIMEOUT_SECS",
    "Seconds that the instructions tell the agent to wait for a message each turn; 0 turns that off.",
    default="2",
    kind="number",
    minimum=0,
)
MOLECULE_MCP_MAX_WAIT_SECS = Variable(
    "MOLECULE_MCP_MAX_WAIT_SECS",
    "Seconds that one tool call waits for a message, a peer or a person before it returns with a way to go on; 0 for no limit.",
    default="50",
    kind="number",
    minimum=0,
)
MOLECULE_DELEGATION_CHAIN = Variable(
    "MOLECULE_DELEGATION_CHAIN",
    "Set by a workspace host for the program of a turn: ids of the workspaces that handed the task on, by commas, the sender last.",
)
MOLECULE_MCP_HTTP_TOKEN = Variable(
    "MOLECULE_MCP_HTTP_TOKEN", "Bearer token that clients of molecule-mcp --transport http must send.", secret=True
)
MOLECULE_MCP_HTTP_TOKEN_FILE = Variable(
    "MOLECULE_MCP_HTTP_TOKEN_FILE",
    "File that holds that token; without either, one is made in molecule-mcp-http.token in CONFIGS_DIR.",
    kind="path",
)
A2A_COMPLETION_IDLE_TIMEOUT_SECONDS = Variable(
    "A2A_COMPLETION_IDLE_TIMEOUT_SECONDS",
    "Seconds without a word of the agent after which its turn has failed, over config.yaml; 0 for no limit.",
    kind="number",
    minimum=0,
)
LANGGRAPH_RECURSION_LIMIT = Variable(
    "LANGGRAPH_RECURSION_LIMIT",
    "Steps that a LangGraph agent may take in one turn.",
    default="500",
    kind="number",
    minimum=1,
)
DELEGATION_TIMEOUT = Variable(
    "DELEGATION_TIMEOUT",
    "Seconds that a synchronous delegation waits for its answer.",
    default="300",
    kind="number",
    minimum=0.001,
    maximum=86_400,
)
DELEGATION_RETRY_ATTEMPTS = Variable(
    "DELEGATION_RETRY_ATTEMPTS", "Attempts to deliver a delegated task, over config.yaml.", kind="number", minimum=0
)
DELEGATION_RETRY_DELAY = Variable(
    "DELEGATION_RETRY_DELAY",
    "Seconds between attempts to deliver a delegated task, over config.yaml.",
    kind="number",
    minimum=0,
)
SANDBOX_BACKEND = Variable(
    "SANDBOX_BACKEND", "bubblewrap, docker, e2b or none: what isolates run_code, over config.yaml."
)
SANDBOX_MEMORY_LIMIT = Variable("SANDBOX_MEMORY_LIMIT", "Memory of run_code, over config.yaml.")
SANDBOX_TIMEOUT = Variable(
    "SANDBOX_TIMEOUT", "Seconds of one run of run_code, over config.yaml.", kind="number", minimum=0
)
E2B_API_KEY = Variable("E2B_API_KEY", "Key of E2B's cloud, for sandbox.backend e2b.", secret=True)
DOCKER_HOST = Variable("DOCKER_HOST", "Address of docker, for sandbox.backend docker, where it is not the usual one.")
AUDIT_LEDGER_DB = Variable(
    "AUDIT_LEDGER_DB",
    "File of the audit ledger, or off for none; default audit_ledger.db in CONFIGS_DIR.",
)
AUDIT_LEDGER_SALT = Variable(
    "AUDIT_LEDGER_SALT",
    "Secret from which the ledger's key is derived; without it the first key of AUDIT_LEDGER_KEY_FILE signs.",
    secret=True,
)
AUDIT_LEDGER_KEY_FILE = Variable(
    "AUDIT_LEDGER_KEY_FILE",
    "File of the ledger's keys (0600), made when there is none; default audit_ledger.key beside the ledger.",
    kind="path",
)
AUDIT_LEDGER_CONTENT = Variable(
    "AUDIT_LEDGER_CONTENT", "Keep arguments and answers in the ledger, redacted, not only their hashes.", kind="flag"
)
AUDIT_LEDGER_ANCHOR = Variable(
    "AUDIT_LEDGER_ANCHOR",
    "Write the ledger's signed checkpoints into the platform's activity log too, where a process serves one tenant.",
    kind="flag",
)
AUDIT_LOG_PATH = Variable(
    "AUDIT_LOG_PATH", "File of the audit event lines (JSONL); default audit.jsonl in CONFIGS_DIR.", kind="path"
)
OTEL_SDK_DISABLED = Variable("OTEL_SDK_DISABLED", "true: no telemetry, whatever else is set.")
OTEL_TRACES_EXPORTER = Variable(
    "OTEL_TRACES_EXPORTER", "Exporter of traces: otlp, console or none; otlp where an endpoint is set."
)
OTEL_METRICS_EXPORTER = Variable(
    "OTEL_METRICS_EXPORTER", "Exporter of metrics: otlp, console or none; otlp where an endpoint is set."
)
OTEL_EXPORTER_OTLP_ENDPOINT = Variable(
    "OTEL_EXPORTER_OTLP_ENDPOINT", "Where traces and metrics go, over HTTP; turns telemetry on.", kind="url"
)
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = Variable(
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "The same, for traces alone: the full URL.", kind="url"
)
OTEL_EXPORTER_OTLP_METRICS_ENDPOINT = Variable(
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "The same, for metrics alone: the full URL.", kind="url"
)
OTEL_EXPORTER_OTLP_PROTOCOL = Variable(
    "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf; grpc needs an exporter of its own.", default="http/protobuf"
)
OTEL_SERVICE_NAME = Variable("OTEL_SERVICE_NAME", "service.name of the telemetry; default is the command's name.")
OTEL_RESOURCE_ATTRIBUTES = Variable("OTEL_RESOURCE_ATTRIBUTES", "More attributes of the resource, as key=value,...")
OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = Variable(
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
    "true, span_only or span_and_event: spans carry arguments and answers of tools, redacted. Anything else: they do not.",
)
PLUGINS_DIR = Variable("PLUGINS_DIR", "Folder of the plugins that workspaces share.", default="/plugins", kind="path")
MOLECULE_PLATFORM_AGENT_IMAGE_BAKED = Variable(
    "MOLECULE_PLATFORM_AGENT_IMAGE_BAKED",
    "This image carries the management MCP server of the platform's own agent.",
    kind="flag",
)
CODEX_HOME = Variable("CODEX_HOME", "Codex' own folder; ~/.codex where unset.", kind="path")
HERMES_HOME = Variable("HERMES_HOME", "Hermes' own folder; ~/.hermes where unset.", kind="path")
MOLECULE_LOCAL_DATA = Variable(
    "MOLECULE_LOCAL_DATA", "Folder of molecule-local's database and admin token.", kind="path"
)
XDG_DATA_HOME = Variable(
    "XDG_DATA_HOME", "Base folder of user data, where MOLECULE_LOCAL_DATA is not set.", kind="path"
)
NO_COLOR = Variable("NO_COLOR", "Any value turns colours off (https://no-color.org).", kind="flag")
HOME = Variable("HOME", "Home directory.", kind="path")
HOSTNAME = Variable("HOSTNAME", "Host name of the container.")
DOCKER_VERSION = Variable("DOCKER_VERSION", "Set by some images; tells molecule-runtime that it runs in a container.")

ALL: tuple[Variable, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Variable))
"""Every variable, in the order of this file."""
