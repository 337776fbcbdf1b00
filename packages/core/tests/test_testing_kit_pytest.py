"""The suite as an adapter author uses it: three lines in a file, run by pytest."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ADAPTER = """
    from molecule_runtime.core import BaseAdapter

    class Executor:
        async def execute(self, context, queue):
            from a2a.helpers import new_text_message
            await queue.enqueue_event(new_text_message(context.get_user_input(), context_id=context.context_id))

        async def cancel(self, context, queue):
            pass

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "echo")
        display_name = staticmethod(lambda: "Echo")
        description = staticmethod(lambda: "Repeats what it is told.")

        async def setup(self, config):
            self.result = await self._common_setup(config)

        async def create_executor(self, config):
            return Executor()
"""

THREE_LINES = """
    from adapter import Adapter
    from molecule_runtime.core.testing import AdapterConformance

    class TestAdapter(AdapterConformance):
        adapter_class = Adapter
"""


def run_pytest(folder: Path, adapter: str) -> subprocess.CompletedProcess[str]:
    """Run pytest without the plugins that happen to be installed here, which take longer than the suite."""
    (folder / "adapter.py").write_text(textwrap.dedent(adapter))
    (folder / "test_adapter.py").write_text(textwrap.dedent(THREE_LINES))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-rs", "test_adapter.py"],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_three_lines_run_the_suite_on_an_adapter(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, ADAPTER)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
    assert "set failing_runtime_config" in result.stdout


def test_an_adapter_that_breaks_a_rule_fails_under_pytest_and_the_reason_is_shown(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, ADAPTER.replace('lambda: "echo"', 'lambda: "Echo!"'))
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 failed" in result.stdout
    assert "must be lower-case letters" in result.stdout


def test_the_suite_imports_no_test_framework_and_no_sdk() -> None:
    code = "import sys, molecule_runtime.core.testing; print([n for n in ('pytest', 'a2a', 'mcp', 'langchain_core') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
