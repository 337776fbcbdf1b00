"""`config.yaml`: one model, loaded once, passed down (contract `workspace-host.md` 6, `runtime.md` 17)."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from molecule_runtime.core import env
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE_NAME = "config.yaml"

DEFAULT_MODEL = "anthropic:claude-opus-4-7"
"""Contract `runtime.md` 17."""


def _text(value: object) -> object:
    """Keep `version: 1.0` and `version: 2026-07-01` text: YAML reads a number and a date."""
    return str(value) if isinstance(value, (int, float, date)) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text)]


class _Block(BaseModel):
    # Real files carry keys of other tools and versions: they are kept, never fatal.
    model_config = ConfigDict(frozen=True, extra="allow")


class A2AConfig(_Block):
    """The `a2a` block: this workspace's A2A server."""

    port: int = Field(default=8000, ge=1, le=65535, description="Port of the A2A server.")
    streaming: bool = Field(default=True, description="Offer message/stream.")
    push_notifications: bool = Field(default=True, description="Offer push notification configs.")
    delivery_mode: Literal["push", "poll"] | None = Field(
        default=None, description="How the platform delivers messages."
    )


class RbacConfig(_Block):
    """The `rbac` block: which tool actions this workspace may use."""

    roles: list[str] = Field(default_factory=lambda: ["operator"], description="Roles of this workspace.")
    allowed_actions: dict[str, list[str]] = Field(default_factory=dict, description="Custom roles: name to actions.")


class ObservabilityConfig(_Block):
    """The `observability` block."""

    heartbeat_interval_seconds: float = Field(
        default=30, allow_inf_nan=False, description="Seconds between heartbeats; clamped to 5 to 300."
    )
    log_level: str = Field(default="INFO", description="Log level; LOG_LEVEL wins.")


class WorkspaceConfig(_Block):
    """A workspace's `config.yaml`."""

    name: Text = Field(default="Workspace", description="Name of the workspace.")
    description: Text = Field(default="", description="One sentence on what the agent does.")
    role: Text = Field(default="", description="Role of the agent in its team.")
    version: Text = Field(default="1.0.0", description="Version on the agent card.")
    tier: int = Field(default=1, ge=0, description="Tier; 0 is an org root.")
    model: Text = Field(default=DEFAULT_MODEL, description="Model as provider:model.")
    runtime: Text = Field(
        default="langgraph", description="Runtime key; names an installed adapter when ADAPTER_MODULE is unset."
    )
    runtime_config: dict[str, Any] = Field(default_factory=dict, description="Settings of the adapter.")
    skills: list[Text] = Field(default_factory=list, description="Skills of this workspace.")
    tools: list[Text] = Field(default_factory=list, description="Tools of this workspace.")
    prompt_files: list[Text] = Field(default_factory=list, description="Prompt files in the config folder.")
    a2a: A2AConfig = Field(default_factory=A2AConfig)
    rbac: RbacConfig = Field(default_factory=RbacConfig)
    observability: ObservabilityConfig = Field(default_factory=ObservabilityConfig)


def load_config(folder: Path, environ: Mapping[str, str] | None = None) -> WorkspaceConfig:
    """Read `config.yaml` in `folder`; a model from the environment wins over the file.

    Raises:
        ConfigurationError: the file is missing, unreadable, not YAML, or holds a wrong value; every finding is named.
    """
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path} does not exist; set WORKSPACE_CONFIG_PATH to the folder that holds {FILE_NAME}"
        ) from None
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path} is not UTF-8 text (byte {exc.start})") from None
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror or type(exc).__name__}") from None
    try:
        data: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as exc:
        # A ValueError is an impossible date, such as 2026-02-31. The text quotes the line, which may hold a secret.
        raise ConfigurationError(f"{path} is not valid YAML: {redact_text(' '.join(str(exc).split()))}") from None
    except RecursionError:
        raise ConfigurationError(f"{path} is nested too deeply") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} must hold a mapping of keys, not a {type(data).__name__}")
    # A block that is present but null means its defaults.
    settings: dict[str, Any] = {
        str(key): value for key, value in cast("dict[object, Any]", data).items() if value is not None
    }
    model = env.MOLECULE_MODEL.get(environ) or env.MODEL.get(environ) or env.MODEL_PROVIDER.get(environ)
    if model:
        settings["model"] = model
    try:
        return WorkspaceConfig.model_validate(settings)
    except ValidationError as exc:
        findings = [
            f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']} (found {redact_text(repr(error['input']))[:60]})"
            for error in exc.errors(include_url=False)
        ]
        raise ConfigurationError(f"{path}: {'; '.join(findings)}") from None
