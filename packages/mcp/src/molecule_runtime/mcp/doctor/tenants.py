"""Checks of every workspace: its settings, its platform, whether that takes the token, and the clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from molecule_runtime.core.errors import TargetError
from molecule_runtime.core.identity import is_loopback
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.preflight import Outcome, clock, fail, ok, reached, skip, token_verdict, warn
from molecule_runtime.core.targets import missing_variables, resolve_targets
from molecule_runtime.mcp.doctor.subject import AT_ONCE, SHELL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from molecule_runtime.core.targets import WorkspaceTarget
    from molecule_runtime.mcp.doctor.subject import Machine

TENANTS_DEADLINE = 45.0
"""Seconds for all platforms together."""

NO_TARGETS = "no workspace is configured"


def check_targets(machine: Machine) -> Iterator[Outcome]:
    """Which workspaces are configured, and every mistake in the settings of this shell. Those of clients are a check of their own."""
    sources = machine.sources()
    if not sources:
        yield fail(
            "no workspace is configured, neither in this shell nor, completely, in a client's file",
            "configure a client as `molecule-mcp --help` shows, or set WORKSPACE_ID, PLATFORM_URL and MOLECULE_WORKSPACE_TOKEN here",
        )
    elif sources[0].name == SHELL:
        for reason, remedy in problems_of(machine.environ):
            yield fail(reason, remedy)
    for target in machine.targets():
        if not target.token.read():
            yield fail(f"{target.id}: no token ({target.token.description})", "write the token there, alone")
        else:
            yield ok(f"{target.id} at {target.platform_url}, token from {target.token.description}")


def problems_of(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the settings of the workspaces, each with its remedy."""
    if missing := missing_variables(environ):
        yield f"{', '.join(missing)} missing", "add them; `molecule-mcp --help` explains each"
        return
    try:
        resolve_targets(environ)
    except TargetError as exc:
        for error in exc.errors:
            reason, _, remedy = error.partition("; ")
            yield reason, remedy or "correct it; `molecule-mcp --help` explains each setting"


def check_platforms(machine: Machine) -> Iterator[Outcome]:
    """Whether each platform answers, over a connection that nobody else reads."""
    if not machine.targets():
        yield skip(NO_TARGETS)
    for url, health in machine.healths().items():
        if urlsplit(url).scheme == "http" and not is_loopback(urlsplit(url).hostname or ""):
            yield warn(f"{url} is not encrypted, and tokens travel over it", "use the platform's https:// address")
        if isinstance(health, Exception) and "CERTIFICATE_VERIFY_FAILED" in str(health):
            yield fail(
                f"{url} shows a certificate that this machine does not trust ({health})",
                "check the address; for a company's own certificates set SSL_CERT_FILE",
            )
        else:
            yield reached(url, health, setting="PLATFORM_URL or platform_url")


def check_tokens(machine: Machine) -> Iterator[Outcome]:
    """Whether each platform takes the token of each workspace, by a heartbeat."""
    targets = [target for target in machine.targets() if target.token.read()]
    if not targets:
        yield skip("there is no token to try")
        return
    healths = machine.healths()
    reachable = [target for target in targets if not isinstance(healths[target.platform_url], Exception)]
    for target in targets:
        if target not in reachable:
            yield skip(f"{target.id}: the platform cannot be reached")
    for target, outcome in anyio.run(_try_tokens, reachable):
        yield Outcome(outcome.status, f"{target.id}: {outcome.reason}", outcome.fix, outcome.detail)


def check_clocks(machine: Machine) -> Iterator[Outcome]:
    """Whether our clock agrees with that of each platform."""
    if not machine.targets():
        yield skip(NO_TARGETS)
    for url, health in machine.healths().items():
        if isinstance(health, Exception):
            yield skip(f"{url}: the platform cannot be reached")
        else:
            outcome = clock(health)
            yield Outcome(outcome.status, f"{url}: {outcome.reason}", outcome.fix)


async def _try_tokens(targets: list[WorkspaceTarget]) -> list[tuple[WorkspaceTarget, Outcome]]:
    found: dict[str, Outcome] = {}
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def attempt(target: WorkspaceTarget, pools: ConnectionPools) -> None:
        async with limiter:
            found[target.id] = await token_verdict(target, pools)

    async with ConnectionPools() as pools, anyio.create_task_group() as group:
        for target in targets:
            group.start_soon(attempt, target, pools)
    return [(target, found[target.id]) for target in targets]
