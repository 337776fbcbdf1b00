"""Approvals: a person decides on exactly one action, once and for a limited time; and the decorator for adapter authors.

Whatever channels a team has (the page, chat, mail) are the platform's: nothing here sends to them, and nothing here decides.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast
from uuid import UUID

from molecule_runtime.core.errors import MoleculeError, NotFoundError, PlatformError
from molecule_runtime.core.platform.wire.requests import CreateApprovalRequest, CreateRequest
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.tools import approval_records as records
from molecule_runtime.tools.approval_records import Asked
from molecule_runtime.tools.errors import ApprovalDeniedError, ApprovalTimeoutError
from molecule_runtime.tools.journal import Owner
from molecule_runtime.tools.observing import Observer
from molecule_runtime.tools.request_outcomes import EXPIRED, OPEN, Outcome, look, until_decided
from molecule_runtime.tools.result import ToolResult, bounded, failed
from molecule_runtime.tools.telemetry import APPROVAL, PROCESS

if TYPE_CHECKING:
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.tools.audit import AuditTrail
    from molecule_runtime.tools.journal import Journal
    from molecule_runtime.tools.telemetry import Telemetry

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_TIMEOUT: Final = 300.0
"""Seconds until a request lapses, where `hitl.default_timeout` says nothing (contract `workspace-host.md` 6)."""

GRANT_SECONDS: Final = 900.0
"""For which an approval allows its action, from the moment of the decision."""

OPEN_SECONDS: Final = 24 * 3600.0
"""For which a request may wait for a person."""

_STATUS: Final[Mapping[type[MoleculeError], str]] = {ApprovalDeniedError: "rejected", ApprovalTimeoutError: EXPIRED}

MAX_SHOWN_BYTES: Final = 4096
MAX_TITLE_CHARS: Final = 300


class ApprovalGate:
    """Asks people for approval, as one workspace.

    Args:
        timeout: seconds until a request that `require` made lapses; `hitl.default_timeout` of config.yaml.
        roles: of this workspace; with one of `bypass_roles` (`hitl.bypass_roles`) nobody is asked.
        telemetry: traces what `require` asks for.
        audit: the ledger that it goes into; None for no ledger.
    """

    def __init__(
        self,
        client: PlatformClient,
        journal: Journal,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        roles: Sequence[str] = (),
        bypass_roles: Sequence[str] = (),
        telemetry: Telemetry = PROCESS,
        audit: AuditTrail | None = None,
    ) -> None:
        self._observer = Observer(telemetry=telemetry, audit=audit, client=client)
        self._client = client
        self._journal = journal
        self._owner = Owner.of(client)
        self._timeout = timeout
        self._bypassed = bool(set(roles) & set(bypass_roles))

    async def require(
        self,
        action: str,
        *,
        arguments: Mapping[str, Any] | None = None,
        reason: str = "",
        progress: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Return when a person approved exactly this action with these arguments; the approval is used up by that.

        A process that was killed while it waited goes on with the same request when it asks again.

        Raises:
            ApprovalDeniedError: a person said no, or took the request back.
            ApprovalTimeoutError: nobody decided in time.
            PlatformError: nobody can be asked.
            TypeError: an argument has no form that a person could approve.
        """
        if not self._bypassed:
            fingerprint(action, arguments or {})
        refused: list[MoleculeError] = []

        async def run() -> ToolResult:
            if self._bypassed:
                return ToolResult(
                    text="nobody was asked: the role needs no approval", structured={"status": "bypassed"}
                )
            try:
                asked = await self._approved(action, arguments, reason, progress or _nobody)
            except MoleculeError as exc:
                refused.append(exc)
                request_id = exc.request_id if isinstance(exc, (ApprovalDeniedError, ApprovalTimeoutError)) else ""
                result = failed(redact_text(str(exc)), request_id=request_id, status=_STATUS.get(type(exc), "failed"))
                return replace(result, error_type=type(exc).__name__)
            return ToolResult(text="approved", structured={"request_id": asked.request_id, "status": "approved"})

        plain = json.loads(json.dumps(arguments or {}, default=str, skipkeys=True))
        about = {"action": action, "reason": reason, "arguments": plain}
        await self._observer.watch(APPROVAL, about, run, action="approve")
        if refused:
            raise refused[0]

    async def _approved(
        self,
        action: str,
        arguments: Mapping[str, Any] | None,
        reason: str,
        progress: Callable[[str], Awaitable[None]],
    ) -> Asked:
        """Ask until a person has decided, and return the request that was approved, and is used up now."""
        deadline = time.monotonic() + self._timeout
        while True:
            asked = await self.ask(action, arguments=arguments, reason=reason)
            left = max(0.0, deadline - time.monotonic())
            outcome = await until_decided(
                self._client, asked.request_id, asked.api, seconds=left, say=progress, questions_end=False
            )
            if outcome is None:
                await self._take_back(asked)
                outcome = Outcome(status=EXPIRED)
            if outcome.status == "approved" and not outcome.by_agent:
                if await self.use(asked, outcome):
                    return asked
                # Somebody else used it, or it was given long ago: this is another action of the same name.
                continue
            await self.close(asked)
            raise self._refusal(action, asked, outcome)

    async def ask(self, action: str, *, arguments: Mapping[str, Any] | None = None, reason: str = "") -> Asked:
        """Ask for an approval, or return the request for exactly this action that is under way."""
        mark = fingerprint(action, arguments or {})
        known = await self._journal.run(lambda db: records.open_for(db, self._owner, mark))
        if known is not None and await self._is_usable(known):
            return known
        title = " ".join(action.split())
        title = title if len(title) <= MAX_TITLE_CHARS else f"{title[: MAX_TITLE_CHARS - 1]}…"
        detail = _detail(action, title, arguments or {}, reason, mark)
        asked = await self._adopt(title, mark) or await self._create(title, detail, mark)
        await self._journal.run(lambda db: records.keep(db, self._owner, asked))
        return asked

    async def use(self, asked: Asked, outcome: Outcome) -> bool:
        """Take an approval; False when it was used before, or its time is over. Then it allows nothing."""
        decided = outcome.decided if outcome.decided is not None else time.time()
        if outcome.status != "approved" or time.time() > min(asked.expires, decided + GRANT_SECONDS):
            await self.close(asked)
            return False
        return await self._journal.run(lambda db: records.use(db, self._owner, asked))

    async def close(self, asked: Asked) -> None:
        """Note that a request allows nothing any more."""
        await self._journal.run(lambda db: records.close(db, self._owner, asked.request_id))

    async def _is_usable(self, asked: Asked) -> bool:
        """Tell whether a request that is in the journal can still lead to something."""
        try:
            outcome = await look(self._client, asked.request_id, asked.api)
        except NotFoundError:
            outcome = Outcome(status="cancelled")
        lapsed = outcome.decided is not None and time.time() > outcome.decided + GRANT_SECONDS
        if outcome.status in OPEN or (outcome.status == "approved" and not lapsed):
            return True
        if outcome.status == "rejected" and not lapsed:
            # A no that nobody was told: the process that asked was killed.
            return True
        await self.close(asked)
        return False

    async def _adopt(self, title: str, mark: str) -> Asked | None:
        """Find an open request for exactly this action that no journal knows: its process was killed before it could write."""
        try:
            rows = await self._client.requests(status="pending")
        except PlatformError:
            return None
        for row in rows:
            if row.kind == "approval" and row.title == title and mark in (row.detail or "").splitlines()[-1:]:
                request_id = row.id
                if not await self._journal.run(lambda db: records.is_known(db, self._owner, request_id)):  # noqa: B023 - run at once
                    return self._asked(request_id, "requests", mark)
        return None

    async def _create(self, title: str, detail: str, mark: str) -> Asked:
        try:
            made = await self._client.create_request(
                CreateRequest(kind="approval", recipient_type="user", recipient_id="", title=title, detail=detail)
            )
        except NotFoundError:
            older = await self._client.create_approval(CreateApprovalRequest(action=title, reason=detail))
            return self._asked(older.approval_id, "approvals", mark)
        return self._asked(made.request_id, "requests", mark)

    def _asked(self, request_id: str, api: records.Api, mark: str) -> Asked:
        return Asked(request_id=request_id, api=api, fingerprint=mark, expires=time.time() + OPEN_SECONDS)

    async def _take_back(self, asked: Asked) -> None:
        """Take back what nobody decided, so that nobody approves what is no longer waited for."""
        await self.close(asked)
        try:
            if asked.api == "requests":
                await self._client.cancel_request(asked.request_id)
            else:
                await self._client.withdraw_approval(asked.request_id)
        except PlatformError:
            # Decided in this moment, or an older platform: the journal refuses it all the same.
            return

    def _refusal(self, action: str, asked: Asked, outcome: Outcome) -> ApprovalDeniedError | ApprovalTimeoutError:
        shown = action if len(action) <= 200 else f"{action[:199]}…"
        if outcome.status == EXPIRED:
            return ApprovalTimeoutError(
                f"nobody decided on {shown!r} within {self._timeout:.0f} s (request {asked.request_id}); it was not done",
                request_id=asked.request_id,
            )
        by = outcome.decided_by or "a person"
        word = "was denied" if outcome.status == "rejected" else f"is {outcome.status}"
        if outcome.by_agent:
            word, by = "was answered", f"{by}, and not by a person"
        return ApprovalDeniedError(
            f"{shown!r} {word} by {by} (request {asked.request_id}); it was not done", request_id=asked.request_id
        )


def requires_approval(
    gate: ApprovalGate | Callable[[], ApprovalGate], action: str, *, reason: str = ""
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Have a person approve each call of an async function before it runs.

    `action` and `reason` are texts for people, in which `{name}` stands for the argument of that name. The decision is bound to the
    action and to all arguments of the call, which must be plain values (text, numbers, lists, mappings, paths, times, dataclasses).

    Args:
        gate: who is asked; a function that returns it, where there is none yet when the module is imported.
        action: what would be done.
        reason: why; `""` for no reason.

    Raises:
        TypeError: the function is not async, or at a call, an argument has no form that a person could approve.
        ApprovalDeniedError: at a call: a person said no.
        ApprovalTimeoutError: at a call: nobody decided in time.
    """

    def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"requires_approval: {getattr(function, '__name__', function)!r} must be an async function")
        signature = inspect.signature(function)

        @functools.wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = {name: value for name, value in bound.arguments.items() if name not in {"self", "cls"}}
            asked = gate if isinstance(gate, ApprovalGate) else gate()
            await asked.require(
                _filled(action, arguments), arguments=arguments, reason=_filled(reason, arguments) if reason else ""
            )
            return await function(*args, **kwargs)

        return guarded

    return decorate


def fingerprint(action: str, arguments: Mapping[str, Any]) -> str:
    """Return the hash of an action and its arguments: equal for equal ones, whatever the order of keys, and for nothing else.

    Raises:
        TypeError: an argument has no plain form; names it.
    """
    plain = {str(name): _plain(value, str(name)) for name, value in arguments.items()}
    text = json.dumps([action, plain], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _plain(value: Any, where: str) -> Any:
    """Return a value as JSON, with what JSON does not tell apart marked with its type."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return [type(value).__name__, value.value if isinstance(value, Enum) else value]
    if isinstance(value, (PurePath, UUID, date, datetime, Decimal, Enum)):
        return [type(value).__name__, str(value)]
    if isinstance(value, bytes):
        return ["bytes", hashlib.sha256(value).hexdigest()]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, _plain(asdict(value), where)]
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value)
        return {f"{type(key).__name__}:{key}": _plain(item, f"{where}.{key}") for key, item in items.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(cast("Sequence[object]", value))]
    raise TypeError(
        f"argument {where} is a {type(value).__name__}, which nobody can approve: pass a plain value, such as an id"
    )


def _detail(action: str, title: str, arguments: Mapping[str, Any], reason: str, mark: str) -> str:
    """Return what the person reads; the last line is the fingerprint, by which the request is found again."""
    parts = [] if " ".join(action.split()) == title else [action]
    if reason:
        parts.append(reason)
    if arguments:
        # Redacted before it is cut, so that no half of a secret is left.
        shown = redact_text(json.dumps(arguments, default=str, ensure_ascii=False, indent=1))
        parts.append(f"Arguments:\n{bounded(shown, MAX_SHOWN_BYTES)}")
    minutes = GRANT_SECONDS / 60
    parts.append(f"It holds once, for exactly this, for {minutes:.0f} minutes after the decision. Fingerprint:\n{mark}")
    return bounded("\n\n".join(parts[:-1]), 32 * 1024) + ("\n\n" if len(parts) > 1 else "") + parts[-1]


def _filled(template: str, arguments: Mapping[str, Any]) -> str:
    try:
        return template.format_map(arguments)
    except (KeyError, IndexError, ValueError, AttributeError):
        return template


async def _nobody(text: str) -> None:
    """Nobody asked for progress."""
