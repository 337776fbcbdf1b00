"""Our own example adapters, and adapters built on our executors, pass the suite that we give to adapter authors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from molecule_runtime.a2a.examples import calculator, lead, table
from molecule_runtime.a2a.executors import AgentEvent, CliExecutor, StreamingExecutor, TextDelta, Turn
from molecule_runtime.core.testing import AdapterConformance

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from molecule_runtime.core.adapter import AdapterConfig
    from molecule_runtime.core.testing import FakePlatform


class TestCalculator(AdapterConformance):
    adapter_class = calculator.Adapter
    failing_runtime_config: ClassVar[dict[str, Any] | None] = {"digits": "many"}
    message = "What is (17 * 23) + 4?"


class TestTable(AdapterConformance):
    adapter_class = table.Adapter
    failing_runtime_config: ClassVar[dict[str, Any] | None] = {"csv": "no-such-file.csv"}
    message = "Which planet has the largest mass?"


class TestLead(AdapterConformance):
    adapter_class = lead.Adapter
    failing_runtime_config: ClassVar[dict[str, Any] | None] = {"timeout_seconds": -1}
    message = "ask Calculator: 2 + 2"

    def prepare_platform(self, platform: FakePlatform) -> None:
        platform.add_peer("ws-calculator", "Calculator")


class Streamed(calculator.Adapter):
    """An adapter built on `StreamingExecutor`."""

    async def create_executor(self, config: AdapterConfig) -> Any:
        return StreamingExecutor(self.run)

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        yield TextDelta("You said: ")
        yield TextDelta(turn.text)


class Program(calculator.Adapter):
    """An adapter built on `CliExecutor`."""

    async def create_executor(self, config: AdapterConfig) -> Any:
        return CliExecutor(lambda turn, session: ["cat"], lambda line: [TextDelta(line)])


class TestStreamed(AdapterConformance):
    adapter_class = Streamed
    failing_runtime_config: ClassVar[dict[str, Any] | None] = {"digits": "many"}


class TestProgram(AdapterConformance):
    adapter_class = Program
    failing_runtime_config: ClassVar[dict[str, Any] | None] = {"digits": "many"}
