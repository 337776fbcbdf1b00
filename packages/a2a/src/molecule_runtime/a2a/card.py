"""The agent card: one set of facts, shown to agents as an A2A card and to the platform as the card of a registration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import Response

from molecule_runtime.a2a.answering import to_json
from molecule_runtime.a2a.authentication import SCHEME, InboundAuth
from molecule_runtime.core.presence import agent_card

if TYPE_CHECKING:
    from a2a.types import AgentCard, SecurityRequirement, SecurityScheme
    from starlette.requests import Request

    from molecule_runtime.core.adapter import BaseAdapter
    from molecule_runtime.core.config import WorkspaceConfig

INTERFACES = (("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3"))
"""The bindings that are served, and their versions; all at the same address."""

CACHE_SECONDS = 30
"""For which a card may be shown again without asking (A2A 1.0, 8.6); one that changes is asked for with its `ETag`."""

MODES = ("text/plain", "application/json")


class Configuration(StrEnum):
    """Whether the agent behind the card works."""

    STARTING = "starting"
    READY = "ready"
    NOT_CONFIGURED = "not_configured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """One thing that an agent can do."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """Everything that a card says. Frozen: a change replaces it whole, so any thread may read it.

    Attributes:
        url: where this workspace is reached.
        streaming: whether answers come piece by piece to who asks for that.
        push: whether whoever asks is told of a task's changes.
        configuration: whether the agent works.
        configuration_error: why not, redacted.
        configuration_warning: what is wrong with an edit of config.yaml that is not in use.
        auth: how senders of messages show that they may.
    """

    name: str
    description: str
    version: str
    url: str
    streaming: bool
    push: bool = False
    skills: tuple[Skill, ...]
    configuration: Configuration = Configuration.STARTING
    configuration_error: str = ""
    configuration_warning: str = ""
    auth: InboundAuth = field(default_factory=InboundAuth)

    def served(self) -> AgentCard:
        """Return the A2A card. It advertises only what this host does: no extended card, for one."""
        from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill

        schemes, requirements = _security(self.auth)
        return AgentCard(
            name=self.name,
            description=self.description,
            version=self.version,
            # The first is preferred; the one of 0.3 is what 0.3 clients read as `url`.
            supported_interfaces=[
                AgentInterface(url=self.url, protocol_binding=binding, protocol_version=version)
                for binding, version in INTERFACES
            ],
            capabilities=AgentCapabilities(streaming=self.streaming, push_notifications=self.push),
            security_schemes=schemes,
            security_requirements=requirements,
            default_input_modes=MODES,
            default_output_modes=MODES,
            skills=[
                AgentSkill(
                    id=skill.id,
                    name=skill.name,
                    description=skill.description,
                    tags=skill.tags,
                    examples=skill.examples,
                )
                for skill in self.skills
            ],
        )

    def registered(self) -> dict[str, Any]:
        """Return the card of a register body (contract `runtime.md` 11, step 5)."""
        card = agent_card(
            self.name,
            description=self.description,
            version=self.version,
            url=self.url,
            skills=[
                {"id": skill.id, "name": skill.name, "description": skill.description, "tags": list(skill.tags)}
                for skill in self.skills
            ],
        )
        card["capabilities"] = {"streaming": self.streaming, "pushNotifications": self.push}
        if self.auth.mode != "none":
            card["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer", "description": self.auth.meaning}}
            card["security"] = [{SCHEME: []}]
        card["configuration_status"] = self.configuration.value
        if self.configuration_error:
            card["configuration_error"] = self.configuration_error
        if self.configuration_warning:
            card["configuration_warning"] = self.configuration_warning
        return card


@dataclass(frozen=True, slots=True)
class CardDocument:
    """A card as it is served: for callers of 1.0 and 0.3 in one, and with what caches need (A2A 1.0, 8.6)."""

    facts: CardFacts
    body: bytes
    tag: str

    @classmethod
    def of(cls, facts: CardFacts) -> CardDocument:
        """Write a card."""
        from a2a.server.request_handlers.response_helpers import agent_card_to_dict

        body = to_json(agent_card_to_dict(facts.served()))
        return cls(facts, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    def response(self, request: Request) -> Response:
        """Answer a request for the card; one who has it already gets no body."""
        headers = {"ETag": self.tag, "Cache-Control": f"public, max-age={CACHE_SECONDS}"}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self.tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type="application/json")


def card_facts(
    config: WorkspaceConfig, adapter: BaseAdapter, *, url: str, auth: InboundAuth | None = None
) -> CardFacts:
    """Gather the facts of a card that are known before the adapter's setup."""
    name = config.name if "name" in config.model_fields_set else adapter.display_name()
    description = config.description or adapter.description() or name
    return CardFacts(
        name=name,
        description=description,
        version=config.version,
        url=url,
        streaming=config.a2a.streaming,
        push=config.a2a.push_notifications,
        skills=skills_of(adapter.skills(), name=name, description=description, tag=adapter.name()),
        auth=auth or InboundAuth(),
    )


def with_skills(card: CardFacts, adapter: BaseAdapter) -> CardFacts:
    """Return a card with what the adapter says now that its agent can do."""
    skills = skills_of(adapter.skills(), name=card.name, description=card.description, tag=adapter.name())
    return replace(card, skills=skills)


def skills_of(raw: Sequence[Mapping[str, Any]], *, name: str, description: str, tag: str) -> tuple[Skill, ...]:
    """Read an adapter's skills; an agent that names none has one skill, which is what it is described as.

    A2A requires at least one skill, and every skill to have a description and a tag, so gaps are filled.
    """
    skills: list[Skill] = []
    for item in raw:
        title = str(item.get("name") or item.get("id") or "").strip()
        if not title:
            continue
        skills.append(
            Skill(
                id=str(item.get("id") or title),
                name=title,
                description=str(item.get("description") or title),
                tags=_texts(item.get("tags")) or (tag,),
                examples=_texts(item.get("examples")),
            )
        )
    return tuple(skills) or (Skill(id=tag, name=name, description=description, tags=(tag,)),)


def _security(auth: InboundAuth) -> tuple[dict[str, SecurityScheme], list[SecurityRequirement]]:
    from a2a.types import HTTPAuthSecurityScheme, SecurityRequirement, SecurityScheme

    if auth.mode == "none":
        return {}, []
    http = HTTPAuthSecurityScheme(scheme="bearer", description=auth.meaning)
    requirement = SecurityRequirement()
    # An entry without scopes.
    requirement.schemes[SCHEME].SetInParent()
    return {SCHEME: SecurityScheme(http_auth_security_scheme=http)}, [requirement]


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    return tuple(str(item) for item in cast("Sequence[object]", value) if str(item).strip())
