"""The steps of a boot and the services after it."""

from __future__ import annotations

import logging
import re

import anyio
import pytest

from molecule_runtime.a2a import steps
from molecule_runtime.a2a.errors import BootError
from molecule_runtime.a2a.steps import Service, Step

from .support import DEADLINE

pytestmark = pytest.mark.anyio


async def test_a_step_says_how_long_it_took(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def run() -> None:
        return None

    await Step(name="tidy up", seconds=1, run=run).take()
    assert re.search(r"boot: tidy up took \d+\.\d\d s$", caplog.text, re.MULTILINE)


async def test_a_step_that_takes_too_long_is_named() -> None:
    with pytest.raises(BootError, match=r"wait for ever: not finished within 0 s"):
        await Step(name="wait for ever", seconds=0.05, run=anyio.sleep_forever).take()


async def test_a_timeout_inside_a_step_is_its_own() -> None:
    async def run() -> None:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        await Step(name="ask", seconds=60, run=run).take()


async def test_a_service_that_fails_begins_again_and_one_that_is_done_does_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(steps, "RESTART_SECONDS", 0.01)
    begun: list[int] = []

    async def run() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise ValueError("not yet")

    with anyio.fail_after(DEADLINE):
        await Service(name="counting", run=run).keep_running()
    assert begun == [0, 1, 2]
    assert caplog.text.count("counting failed; beginning again") == 2
