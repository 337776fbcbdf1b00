"""The background work for the targets of a process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
import pytest
from tests.support.tenants import Tenant, bearer, target

from molecule_runtime.mcp.served import ServedClients
from molecule_runtime.mcp.service import logger
from molecule_runtime.mcp.settings import load_settings
from molecule_runtime.mcp.supervisor import Supervisor

from .processes import SECONDS, one

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools

pytestmark = pytest.mark.anyio


class Ear(logging.Handler):
    """Keeps what is logged, and says so."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard = anyio.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.heard.set()


async def test_a_workspace_whose_last_token_was_revoked_is_named_although_it_registers(
    acme: Tenant, pools: ConnectionPools, tmp_path: Path
) -> None:
    _, ours = await acme.family()
    tokens = f"/workspaces/{ours.id}/tokens"
    (row,) = (await acme.http.get(tokens, headers=bearer(ours))).json()["tokens"]
    assert (await acme.http.delete(f"{tokens}/{row['id']}", headers=bearer(ours))).status_code < 300
    settings = load_settings(one(tmp_path / "p", acme.url, ours).environ)
    served = ServedClients(pools, user_agent="test")
    served.open(target(acme.url, ours))
    supervisor = Supervisor(settings, served)
    ear = Ear()
    logger.addHandler(ear)
    try:
        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as background:
                background.start_soon(supervisor.run)
                await ear.heard.wait()
                background.cancel_scope.cancel()
    finally:
        logger.removeHandler(ear)
    (line,) = ear.lines
    assert f"no live token of workspace {ours.id}" in line
    assert ours.token not in line
