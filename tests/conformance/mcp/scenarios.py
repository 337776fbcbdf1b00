"""The server scenarios of the official suite: which apply to a server like ours, and why the others do not.

A requirement set of the suite names what a revision asks of *some* server: most scenarios call tools, prompts and resources with names that
only the suite's own example server has, and say nothing about a server without them, whatever it answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

OLD: Final = "2025-11-25"
NEW: Final = "2026-07-28"
BOTH: Final = (OLD, NEW)

TASKS: Final = "the extension io.modelcontextprotocol/tasks, which is optional and which this server does not declare"


@dataclass(frozen=True, kw_only=True)
class Applicable:
    """A scenario that must pass.

    Attributes:
        revisions: at which it runs.
        needs: capabilities of the server without which it says nothing; once the server declares them it counts.
        excepted: checks of it that cannot pass, each with the reason; they must indeed not pass.
    """

    revisions: tuple[str, ...] = BOTH
    needs: tuple[str, ...] = ()
    excepted: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class NotApplicable:
    """A scenario that is run and not judged."""

    revisions: tuple[str, ...] = BOTH
    reason: str


def _tool(name: str, revisions: tuple[str, ...] = BOTH) -> NotApplicable:
    return NotApplicable(revisions=revisions, reason=f"calls the example server's tool {name}")


def _prompt(name: str, revisions: tuple[str, ...] = BOTH) -> NotApplicable:
    return NotApplicable(revisions=revisions, reason=f"gets the example server's prompt {name}")


def _resource(name: str, revisions: tuple[str, ...] = BOTH) -> NotApplicable:
    return NotApplicable(revisions=revisions, reason=f"reads the example server's resource {name}")


_DIAGNOSTIC: Final = (
    "calls the example server's tool test_missing_capability, which needs a client that samples; ours need none"
)

SCENARIOS: Final[Mapping[str, Applicable | NotApplicable]] = {
    "server-initialize": Applicable(revisions=(OLD,)),
    "server-session-lifecycle": Applicable(revisions=(OLD,)),
    "server-stateless": Applicable(
        revisions=(NEW,),
        excepted={
            "sep-2575-server-rejects-undeclared-capability": _DIAGNOSTIC,
            "sep-2575-missing-capability-http-400": _DIAGNOSTIC,
        },
    ),
    "ping": Applicable(revisions=(OLD,)),
    "logging-set-level": Applicable(revisions=(OLD,), needs=("logging",)),
    "completion-complete": Applicable(needs=("completions",)),
    "tools-list": Applicable(),
    "server-sse-multiple-streams": Applicable(),
    "dns-rebinding-protection": Applicable(),
    "http-header-validation": Applicable(revisions=(NEW,)),
    "resources-list": Applicable(needs=("resources",)),
    "sep-2164-resource-not-found": Applicable(revisions=(NEW,), needs=("resources",)),
    "prompts-list": Applicable(needs=("prompts",)),
    "caching": Applicable(revisions=(NEW,), needs=("resources", "prompts")),
    "input-required-result-unsupported-methods": Applicable(revisions=(NEW,), needs=("prompts",)),
    "tools-call-simple-text": _tool("test_simple_text"),
    "tools-call-image": _tool("test_image_content"),
    "tools-call-audio": _tool("test_audio_content"),
    "tools-call-embedded-resource": _tool("test_embedded_resource"),
    "tools-call-mixed-content": _tool("test_multiple_content_types"),
    "tools-call-with-logging": _tool("test_tool_with_logging", (OLD,)),
    "tools-call-error": _tool("test_error_handling"),
    "tools-call-with-progress": _tool("test_tool_with_progress"),
    "tools-call-sampling": _tool("test_sampling", (OLD,)),
    "tools-call-elicitation": _tool("test_elicitation", (OLD,)),
    "elicitation-sep1034-defaults": _tool("test_elicitation_sep1034_defaults", (OLD,)),
    "elicitation-sep1330-enums": _tool("test_elicitation_sep1330_enums", (OLD,)),
    "json-schema-2020-12": _tool("json_schema_2020_12_tool"),
    "server-sse-polling": NotApplicable(
        revisions=(OLD,),
        reason="calls the example server's tool test_reconnection; streams cannot be resumed here, which is optional: a call is short",
    ),
    "http-custom-header-server-validation": NotApplicable(
        revisions=(NEW,), reason="needs a tool whose schema has x-mcp-header annotations; none of ours has"
    ),
    "resources-read-text": _resource("test://static-text"),
    "resources-read-binary": _resource("test://static-binary"),
    "resources-templates-read": _resource("test://template/{id}/data"),
    "resources-subscribe": NotApplicable(
        revisions=(OLD,), reason="subscribes to the example server's resource test://watched-resource"
    ),
    "resources-unsubscribe": NotApplicable(
        revisions=(OLD,), reason="subscribes to the example server's resource test://watched-resource"
    ),
    "prompts-get-simple": _prompt("test_simple_prompt"),
    "prompts-get-with-args": _prompt("test_prompt_with_arguments"),
    "prompts-get-embedded-resource": _prompt("test_prompt_with_embedded_resource"),
    "prompts-get-with-image": _prompt("test_prompt_with_image"),
    "input-required-result-basic-elicitation": _tool("test_input_required_result_elicitation", (NEW,)),
    "input-required-result-basic-sampling": _tool("test_input_required_result_sampling", (NEW,)),
    "input-required-result-basic-list-roots": _tool("test_input_required_result_list_roots", (NEW,)),
    "input-required-result-request-state": _tool("test_input_required_result_request_state", (NEW,)),
    "input-required-result-multiple-input-requests": _tool("test_input_required_result_multiple_inputs", (NEW,)),
    "input-required-result-multi-round": _tool("test_input_required_result_multi_round", (NEW,)),
    "input-required-result-missing-input-response": _tool("test_input_required_result_elicitation", (NEW,)),
    "input-required-result-non-tool-request": _prompt("test_input_required_result_prompt", (NEW,)),
    "input-required-result-result-type": _tool("test_input_required_result_elicitation", (NEW,)),
    "input-required-result-tampered-state": _tool("test_input_required_result_tampered_state", (NEW,)),
    "input-required-result-capability-check": _tool("test_input_required_result_capabilities", (NEW,)),
    "input-required-result-ignore-extra-params": _tool("test_input_required_result_elicitation", (NEW,)),
    "input-required-result-validate-input": _tool("test_input_required_result_elicitation", (NEW,)),
    **{
        f"tasks-{name}": NotApplicable(revisions=(NEW,), reason=TASKS)
        for name in (
            "lifecycle",
            "capability-negotiation",
            "wire-fields",
            "request-state-removal",
            "mrtr-input",
            "request-headers",
            "dispatch-and-envelope",
            "status-notifications",
            "required-task-error",
            "mrtr-composition",
        )
    },
}
