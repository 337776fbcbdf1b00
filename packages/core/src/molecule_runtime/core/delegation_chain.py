"""Through whom the task at hand came: the workspaces that handed it on, so that nobody hands it back to one of them.

The host of an agent sets it for the length of a turn; the tools read it and send it along in the metadata of the A2A message. What a
sender claims in it can only make delegations be refused, never allow one.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

from molecule_runtime.core import env
from molecule_runtime.core.errors import InvalidWorkspaceIdError
from molecule_runtime.core.identity import WorkspaceId, validate_workspace_id

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

METADATA_KEY = "delegation_chain"
"""In the metadata of a message: the ids of the workspaces that handed the task on, the first one first."""

MAX_LENGTH = 16
"""Workspaces in a chain; a task that was handed on more often goes nowhere."""

_current: ContextVar[tuple[WorkspaceId, ...]] = ContextVar("molecule_delegation_chain", default=())


def current() -> tuple[WorkspaceId, ...]:
    """Return the workspaces through which the running turn's task came, the sender last; empty outside of such a turn."""
    return _current.get()


@contextmanager
def working_for(metadata: Mapping[str, object]) -> Generator[None]:
    """Note, while a turn runs, where its task came from: what the metadata of its message says."""
    token = _current.set(read(metadata))
    try:
        yield
    finally:
        _current.reset(token)


def handed_on_by(own_id: WorkspaceId, through: Sequence[WorkspaceId] | None = None) -> list[WorkspaceId]:
    """Return the chain to send along with a task that this workspace hands on.

    Args:
        own_id: of this workspace.
        through: the workspaces through which the task came; None for those of the running turn.
    """
    return [*(each for each in (current() if through is None else through) if each != own_id), own_id][-MAX_LENGTH:]


def for_a_program() -> dict[str, str]:
    """Return the variables by which a program that works on the running turn's task knows where it came from; none outside of one.

    A `molecule-mcp` among its children reads them when it starts, as far as its client passes its own environment on.
    """
    return {env.MOLECULE_DELEGATION_CHAIN.name: ",".join(through)} if (through := current()) else {}


def of_this_program(environ: Mapping[str, str] | None = None) -> tuple[WorkspaceId, ...]:
    """Return the workspaces through which the task came that this program was started for; see `for_a_program`."""
    listed = [part.strip() for part in env.MOLECULE_DELEGATION_CHAIN.get(environ).split(",")]
    return read({METADATA_KEY: listed})


def read(metadata: Mapping[str, object]) -> tuple[WorkspaceId, ...]:
    """Read a chain from the metadata of a message, with its sender as the last one.

    What is no workspace id is left out. Of a chain that is too long the end is kept, which is long enough for the next delegation to
    be refused.
    """
    claimed = metadata.get(METADATA_KEY)
    listed: list[object] = list(cast("list[object]", claimed)[-MAX_LENGTH:]) if isinstance(claimed, list) else []
    chain: list[WorkspaceId] = []
    for value in [*listed, metadata.get("source_workspace_id")]:
        try:
            found = validate_workspace_id(value) if isinstance(value, str) else None
        except InvalidWorkspaceIdError:
            continue
        if found is not None and found not in chain:
            chain.append(found)
    return tuple(chain[-MAX_LENGTH:])
