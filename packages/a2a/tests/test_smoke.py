"""Smoke mode: which faults of an image end it, and which are none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from molecule_runtime.a2a import smoke
from molecule_runtime.a2a.executor import ReplyExecutor, Turn
from molecule_runtime.core import wedge

from .support import ECHO, FakePlatform, Workspace, ended, process

pytestmark = pytest.mark.anyio

Make = Callable[..., Workspace]


def adapter(*, setup: str = "pass", answer: str = 'return "fine"', executor: str = "ReplyExecutor(self.answer)") -> str:
    return f"""
    from molecule_runtime.a2a.executor import ReplyExecutor
    from molecule_runtime.core.adapter import BaseAdapter, PrivilegedPluginInstallError

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "smoked")
        display_name = staticmethod(lambda: "Smoked")
        description = staticmethod(lambda: "Is only looked at.")

        async def setup(self, config):
            {setup}

        async def create_executor(self, config):
            return {executor}

        async def answer(self, turn):
            {answer}
    """


OPTIONAL = """
            try:
                import not_there_and_not_needed
            except ImportError:
                raise RuntimeError("no API key")
"""
WRAPPED = """
            try:
                import not_there
            except ImportError as exc:
                raise RuntimeError("install it") from exc
"""


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        (adapter(), 0, "smoke test: passed"),
        (adapter(answer='raise RuntimeError("no API key")'), 0, "smoke test: passed"),
        (adapter(answer="import anyio; await anyio.sleep(3600)"), 0, "TimeoutError"),
        (adapter(setup='raise RuntimeError("the service does not answer")'), 0, "no fault of the image"),
        (adapter(setup=OPTIONAL), 0, "no fault of the image"),
        (adapter(answer="import not_there"), 1, "ModuleNotFoundError"),
        (adapter(answer="from anyio import not_there"), 1, "ImportError"),
        (adapter(setup="import not_there"), 1, "ModuleNotFoundError: No module named 'not_there'"),
        (adapter(setup=WRAPPED), 1, "ModuleNotFoundError: No module named 'not_there'"),
        ("import not_there", 1, "ModuleNotFoundError"),
        (adapter(setup='raise PrivilegedPluginInstallError("no such file")'), 1, "privileged plugin"),
        (adapter(executor="42"), 1, "create_executor returned int"),
        (
            adapter(answer="from molecule_runtime.core import wedge; wedge.mark_wedged('no session'); return 'x'"),
            1,
            "cannot recover: no session",
        ),
    ],
)
async def test_only_what_a_new_image_breaks_ends_it(
    make_workspace: Make, platform: FakePlatform, source: str, code: int, says: str
) -> None:
    workspace = make_workspace(source)
    try:
        done = await ended(workspace, MOLECULE_SMOKE_MODE="1", MOLECULE_SMOKE_TIMEOUT_SECS="0.5")
    finally:
        wedge.reset_for_test()
    assert done.code == code, done.log
    assert says in done.log
    # Its workspace id is made up: the platform must not hear of it.
    assert (platform.registrations, platform.beats) == ([], [])


async def test_it_needs_neither_a_platform_nor_its_port(make_workspace: Make) -> None:
    workspace = make_workspace(adapter())
    workspace.platform_url = "http://127.0.0.1:9"
    async with process(make_workspace(ECHO)) as other:
        await other.says("boot: listen")
        config = workspace.root / "configs" / "config.yaml"
        config.write_text(f"a2a:\n  port: {workspace.port}\n")
        async with process(workspace, MOLECULE_SMOKE_MODE="TRUE") as host:
            assert await host.exit_code() == 0, host.log()
            assert "listen" not in host.log()


async def test_an_agent_that_blocks_the_process_is_a_timeout_too(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = adapter(answer="import time; time.sleep(3600)").replace(
        "class Adapter",
        "import molecule_runtime.a2a.smoke as smoke; smoke.SETUP_SECONDS = 0.5; smoke._GRACE = 0.1\n    class Adapter",
    )
    workspace = make_workspace(source)
    async with process(workspace, MOLECULE_SMOKE_MODE="1", MOLECULE_SMOKE_TIMEOUT_SECS="0.2") as host:
        assert await host.exit_code() == 0, host.log()
        assert "blocks the process" in host.log()


async def test_a_signal_ends_it_as_a_failure(make_workspace: Make) -> None:
    workspace = make_workspace(adapter(setup='print("in setup", flush=True); import anyio; await anyio.sleep(3600)'))
    async with process(workspace, MOLECULE_SMOKE_MODE="1") as host:
        await host.says("in setup")
        host.popen.terminate()
        assert await host.exit_code() == 1
        assert "ended by SIGTERM" in host.log()


@pytest.mark.parametrize(
    ("value", "on"),
    [("1", True), ("true", True), ("Yes", True), ("ON", True), ("", False), ("0", False), ("2", False), ("y", False)],
)
def test_only_four_words_ask_for_it(value: str, on: bool) -> None:
    assert smoke.is_smoke_mode({"MOLECULE_SMOKE_MODE": value}) is on


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("", 5), ("12", 12), ("0.5", 0.5), ("soon", 5), ("-1", 5), ("0", 5), ("nan", 5), ("inf", 5), ("1e400", 5)],
)
def test_a_timeout_that_is_none_means_five_seconds(value: str, seconds: float) -> None:
    assert smoke.smoke_seconds({"MOLECULE_SMOKE_TIMEOUT_SECS": value}) == seconds


async def test_a_template_can_run_it_on_an_executor_of_its_own() -> None:
    async def fine(turn: Turn) -> str:
        return turn.text

    async def broken(_: Turn) -> str:
        raise ModuleNotFoundError("No module named 'x'")

    async def wedged(_: Turn) -> str:
        wedge.mark_wedged("no session")
        return "x"

    assert await smoke.run_executor_smoke(ReplyExecutor(fine)) == 0
    assert await smoke.run_executor_smoke(ReplyExecutor(broken), 1) == 1
    try:
        assert await smoke.run_executor_smoke(ReplyExecutor(wedged), 1) == 1
    finally:
        wedge.reset_for_test()
