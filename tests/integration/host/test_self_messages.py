"""The first prompt of a workspace on a real platform: what people see of it, and the rules that its agent has by then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .members import member, platform, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

ADAPTER = """
    import json
    from pathlib import Path

    from molecule_runtime.a2a.executor import ReplyExecutor
    from molecule_runtime.core.adapter import BaseAdapter

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "ruled")
        display_name = staticmethod(lambda: "Ruled")
        description = staticmethod(lambda: "Has rules.")

        async def setup(self, config):
            self.prompt = (await self._common_setup(config)).system_prompt

        async def create_executor(self, config):
            return ReplyExecutor(self.answer)

        async def answer(self, turn):
            with Path(__file__).with_name("runs.txt").open("a") as handle:
                handle.write(json.dumps(turn.text) + chr(10) + json.dumps(self.prompt) + chr(10))
            return "I am Ruled."
"""


async def test_the_first_prompt_is_a_row_of_the_agents_own_and_its_turn_has_the_platforms_rules(tmp_path: Path) -> None:
    async with platform(tmp_path / "data") as admin:
        rule = {"scope": "global", "title": "Kindness", "content": "Be kind."}
        (await admin.post("/instructions", json=rule)).raise_for_status()
        host = await member(
            admin, tmp_path / "host", adapter=ADAPTER, delivery="push", config="initial_prompt: Say who you are.\n"
        )

        async def answered() -> list[dict[str, Any]]:
            return [row for row in await host.rows() if row.get("response_body")]

        async with host.at_work():
            await until(answered, "the answer is logged", host)
        (row,) = await answered()
        assert row["source_id"] == host.id
        assert row["request_body"]["params"]["message"]["metadata"]["source_type"] == "initial_prompt"
        assert "I am Ruled." in json.dumps(row["response_body"])
        text, prompt = host.runs()
        assert text == "Say who you are."
        assert prompt.startswith("# Platform Instructions\n")
        assert "Be kind." in prompt
        # The next start is without a second prompt, and keeps to the rules of the first.
        assert (host.state / ".initial_prompt_done").read_text() == "attempted"
        assert "Be kind." in (host.state / ".platform_instructions.json").read_text()
