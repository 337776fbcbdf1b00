"""Checks that ask the platform: can it be reached, does it take the token, do the clocks agree.

The token is tried with a heartbeat and never by registering: a registration would replace the card of a workspace that runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import anyio
import httpx

from molecule_runtime.core import env
from molecule_runtime.core.errors import (
    AccessDeniedError,
    ConfigurationError,
    CredentialRejectedError,
    GoneError,
    NotFoundError,
    PlatformError,
    PlatformTimeoutError,
    PlatformUnreachableError,
    RateLimitedError,
    UnavailableError,
)
from molecule_runtime.core.identity import origin_of, validate_platform_url
from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.preflight.model import Check, Context, Outcome, Status, fail, ok, skip, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from molecule_runtime.core.targets import WorkspaceTarget

HEALTH_TIMEOUT = 5.0
"""Seconds; contract `runtime.md` 3.5."""

HEARTBEAT_TIMEOUT = 8.0
"""Seconds; contract `runtime.md` 3.5."""

MAX_SKEW = 60.0
"""Seconds between our clock and the platform's: tokens and signatures of other services allow about as much."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a platform answered on `/health`, and when (Unix seconds)."""

    status: int
    date: str
    asked: float
    answered: float


def check_reachable(context: Context) -> Iterator[Outcome]:
    """Whether the platform answers."""
    try:
        url = _url(context)
    except ConfigurationError:
        yield skip("PLATFORM_URL cannot be used")
        return
    try:
        health: Health | Exception = _health(context)
    except (httpx.HTTPError, OSError) as exc:
        health = exc
    yield reached(url, health, setting="PLATFORM_URL")


def check_accepted(context: Context) -> Iterator[Outcome]:
    """Whether the platform takes the token for this workspace."""
    try:
        target = context.target()
    except ConfigurationError:
        yield skip("the workspace or the platform is not known")
        return
    if not target.token.read():
        yield skip("there is no token")
        return
    yield anyio.run(_verdict, target)


def check_clock(context: Context) -> Iterator[Outcome]:
    """Whether our clock agrees with the platform's `Date` header."""
    try:
        health = _health(context)
    except (httpx.HTTPError, OSError, ConfigurationError):
        yield skip("the platform cannot be reached")
        return
    yield clock(health)


def reached(url: str, health: Health | Exception, *, setting: str) -> Outcome:
    """Judge what came of `ask_health`; `setting` is where the address stands."""
    if isinstance(health, Exception):
        reason = str(health) or type(health).__name__
        return fail(f"{url} cannot be reached ({reason})", f"start the platform, or correct {setting}")
    if health.status >= 500:
        return fail(f"{url} answers {health.status} on /health", "look at the platform's own log")
    if not 200 <= health.status < 300:
        return warn(
            f"{url} answers {health.status} on /health", f"check that {setting} is the address of the platform's API"
        )
    return ok(f"{url} answers within {(health.answered - health.asked) * 1000:.0f} ms")


def clock(health: Health) -> Outcome:
    """Judge the difference between our clock and a platform's."""
    try:
        theirs = parsedate_to_datetime(health.date).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return skip("the platform sends no Date header that can be read")
    # The header has whole seconds, and the answer may be made at any moment between question and receipt.
    ahead = max(health.asked - (theirs + 1), 0.0) - max(theirs - health.answered, 0.0)
    if abs(ahead) > MAX_SKEW:
        way = "ahead of" if ahead > 0 else "behind"
        return warn(
            f"this machine's clock is {abs(ahead):.0f} s {way} the platform's", "set the clock, with NTP for example"
        )
    return ok("this machine's clock agrees with the platform's")


async def token_verdict(target: WorkspaceTarget, pools: ConnectionPools) -> Outcome:
    """Try a target's token with a heartbeat."""
    new = f"copy a new token from the platform's Connect dialog into {target.token.description}"
    try:
        async with PlatformClient(target, pools, user_agent="molecule-runtime-check") as client:
            await client.heartbeat(wire.HeartbeatRequest(workspace_id=target.id), timeout=HEARTBEAT_TIMEOUT)
    except PlatformUnreachableError:
        return skip("the platform cannot be reached")
    except (PlatformTimeoutError, UnavailableError, RateLimitedError) as exc:
        return warn(f"the platform did not say whether it takes the token: {exc}", "try again")
    except CredentialRejectedError as exc:
        return fail(str(exc), new)
    except AccessDeniedError as exc:
        return fail(str(exc), "check that the token belongs to this workspace and organisation")
    except (NotFoundError, GoneError) as exc:
        return fail(str(exc), "check the id of the workspace: the platform does not know it, or removed it")
    except PlatformError as exc:
        return fail(str(exc), "check that PLATFORM_URL (or platform_url) is the address of the platform's API")
    return ok(f"the platform takes the token from {target.token.description}")


async def ask_health(url: str, pools: ConnectionPools) -> Health:
    """Ask a platform whether it is there, without credentials: that is nothing to prove who we are for.

    Raises:
        httpx.HTTPError: it did not answer within `HEALTH_TIMEOUT` seconds, or not at all.
        OSError: it cannot be reached.
    """
    async with httpx.AsyncClient(transport=pools.transport(url), trust_env=False, timeout=HEALTH_TIMEOUT) as http:
        asked = time.time()
        try:
            with anyio.fail_after(HEALTH_TIMEOUT + 1):
                # Only the head: the body of something that is not the platform may have no end.
                async with http.stream("GET", f"{url}/health", headers={"Origin": origin_of(url)}) as response:
                    return Health(response.status_code, response.headers.get("date", ""), asked, time.time())
        except TimeoutError:
            raise httpx.ReadTimeout(f"no answer within {HEALTH_TIMEOUT:g} s") from None


async def _verdict(target: WorkspaceTarget) -> Outcome:
    async with ConnectionPools() as pools:
        return await token_verdict(target, pools)


def _url(context: Context) -> str:
    return validate_platform_url(env.PLATFORM_URL.get(context.environ) or context.platform_url)


def _health(context: Context) -> Health:
    url = _url(context)
    return context.once("health", lambda: anyio.run(_ask, url))


async def _ask(url: str) -> Health:
    async with ConnectionPools() as pools:
        return await ask_health(url, pools)


PLATFORM_CHECKS: tuple[Check[Context], ...] = (
    Check(id="platform.reachable", title="Platform", severity=Status.FAIL, run=check_reachable, network=True),
    Check(
        id="platform.token",
        title="Token accepted",
        severity=Status.FAIL,
        run=check_accepted,
        network=True,
        deadline=15.0,
    ),
    Check(id="platform.clock", title="Clock", severity=Status.WARN, run=check_clock, network=True),
)
