"""Why an agent failed, in a word that programs can act on and a sentence that anybody may read."""

from __future__ import annotations

import re

from molecule_runtime.a2a.errors import A2aError

RATE_LIMITED, AUTH_FAILED, SESSION_ERROR, TIMEOUT = "rate_limited", "auth_failed", "session_error", "timeout"
OUTPUT_TOO_LARGE, SUBPROCESS_ERROR = "output_too_large", "subprocess_error"

_SENTENCES = {
    RATE_LIMITED: "the model's provider asks to wait; send the message again later",
    AUTH_FAILED: "the model's provider or a tool refused the agent's credentials; check its keys",
    SESSION_ERROR: "the agent's session cannot be continued; send the message again",
    TIMEOUT: "the agent took too long",
    OUTPUT_TOO_LARGE: "the agent said more than a turn may hold",
    SUBPROCESS_ERROR: "the agent's program could not be run; see the workspace's log",
}
_MAX_SCANNED = 64 * 1024
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")

# Whole phrases: a sentence with the word "rate", "author" or "session" in it says nothing of the kind, nor does a port such as 4290.
_PATTERNS = (
    (
        RATE_LIMITED,
        re.compile(
            r"\brate[ _-]?limit|\btoo many requests\b|\boverloaded(?:_error)?\b|\bquota (?:exceeded|exhausted)\b"
            r"|\bresource[_ ]exhausted\b|\binsufficient_quota\b"
            r"|\b(?:http|status|code|error)\b(?: code)?[ :=/\"']{0,4}429\b|\b429 (?:too|client|error)\b",
            re.IGNORECASE,
        ),
    ),
    (
        AUTH_FAILED,
        re.compile(
            r"\bunauthori[sz]ed\b|\b(?:authentication|authorization|login)[ _](?:failed|error|required)\b"
            r"|\bnot (?:logged in|authenticated)\b|\binvalid[ _](?:x-)?(?:api|auth)[ _-]?(?:key|token)\b"
            r"|\b(?:missing|incorrect|expired|no) (?:api[ _-]?key|access token|credentials)\b|\binvalid credentials\b"
            r"|\b(?:http|status|code|error)\b(?: code)?[ :=/\"']{0,4}40[13]\b",
            re.IGNORECASE,
        ),
    ),
    (
        SESSION_ERROR,
        re.compile(
            r"\b(?:no|unknown|invalid|expired) (?:conversation|session|thread)\b"
            r"|\b(?:conversation|session|thread)\b[^\n]{0,80}"
            r"\b(?:not found|does not exist|has expired|expired|is invalid|could not be resumed)\b",
            re.IGNORECASE,
        ),
    ),
)


class AgentFailure(A2aError):  # noqa: N818 - an outcome of a turn that authors raise, not a defect
    """A turn failed for a reason that has a name.

    Attributes:
        tag: `rate_limited`, `auth_failed`, `session_error`, `timeout`, `exit_<n>`, ... It goes to the sender.
        detail: for the log only: it may quote paths, secrets and other people's data.
    """

    def __init__(self, tag: str, detail: str = "") -> None:
        super().__init__(f"{tag}: {detail}" if detail else tag)
        self.tag = tag
        self.detail = detail


class SessionLostError(AgentFailure):
    """The runtime does not know the session that was to be continued; `StreamingExecutor` starts anew, once."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(SESSION_ERROR, detail)


def classify(text: str, exit_code: int | None = None) -> str:
    """Return the tag for what a program wrote to stderr and how it ended (contract `runtime.md` 13.1).

    Args:
        text: of which the end counts.
        exit_code: negative for a signal, as in `subprocess`; None where there is none.
    """
    scanned = text[-_MAX_SCANNED:]
    for tag, pattern in _PATTERNS:
        if pattern.search(scanned):
            return tag
    if exit_code:
        return f"exit_{exit_code}" if exit_code > 0 else f"signal_{-exit_code}"
    return SUBPROCESS_ERROR


def tag_of(exc: BaseException) -> str:
    """Return the tag for an exception: what it says of itself, else what its text is known for, else its class."""
    if isinstance(exc, AgentFailure):
        return exc.tag
    if isinstance(exc, TimeoutError):
        return TIMEOUT
    found = classify(str(exc)[:_MAX_SCANNED])
    return type(exc).__name__ if found == SUBPROCESS_ERROR else found


def user_text(tag: str) -> str:
    """Return what a sender may read: the tag and a sentence of ours, never a word of the failure itself."""
    safe = tag if _TAG.match(tag) else "unknown"
    return f"Agent error ({safe}): {_SENTENCES.get(safe, 'see the workspace log')}"
