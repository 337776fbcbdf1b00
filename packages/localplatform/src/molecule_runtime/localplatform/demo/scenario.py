"""What happens in the demo, step by step, with a check of every answer: a demo that only looks right is worse than none."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from molecule_runtime.core import envelope, untrusted
from molecule_runtime.localplatform.errors import DemoError
from molecule_runtime.localplatform.team.logfile import tail

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from molecule_runtime.localplatform.demo.driver import Driver, ToolAnswer
    from molecule_runtime.localplatform.demo.narrator import Narrator
    from molecule_runtime.localplatform.team.seats import Seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What the external agent asks, and what must be in the answers.

    Attributes:
        sums: for the calculator, with the result.
        question: for the table, with a word of the answer.
        request: for the lead, who splits it; with a word of each part's answer.
        errand: what the human asks the lead, who must ask the external agent.
        verdict: what the external agent answers to that.
    """

    sums: tuple[str, str]
    question: tuple[str, str]
    request: tuple[str, tuple[str, ...]]
    errand: str = "Ask scout: what should the report begin with?"
    verdict: str = "With the answer of atlas; the ratio comes second."


def script_for(csv: Path | None, question: str | None) -> Script:
    """Return the script for the shipped data set, or for a file and question of the user's own."""
    sums = ("What is (17 * 23) + 4?", "395")
    if csv is None and question is None:
        return Script(
            sums=sums,
            question=("Which planet has the largest mass?", "Jupiter"),
            request=(
                "Which planet has the highest gravity? What is 142984 / 12756?",
                ("Jupiter", "11.2"),
            ),
        )
    own = (question or "").strip() or "How many rows are there?"
    # The lead takes a request apart where its sentences end.
    asked = own if own.endswith(("?", ".", "!")) else f"{own}?"
    return Script(
        sums=sums,
        question=(own, ""),
        request=(f"{asked} What is 142984 / 12756?", ("11.2",)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Human:
    """Plays the person at the platform's page, who needs no workspace to talk to an agent."""

    platform_url: str
    admin_token: str = field(repr=False)

    async def ask(self, workspace_id: str, text: str, *, seconds: float) -> envelope.Reply:
        """Say something to an agent and return its answer.

        Raises:
            DemoError: it did not answer.
        """
        headers = {"Authorization": f"Bearer {self.admin_token}"}
        async with httpx.AsyncClient(
            base_url=self.platform_url, headers=headers, timeout=seconds, trust_env=False
        ) as http:
            try:
                response = await http.post(f"/workspaces/{workspace_id}/a2a", json=envelope.message_send(text))
                answer = envelope.read_answer(response.json())
            except (httpx.HTTPError, ValueError) as exc:
                raise DemoError(f"the platform did not deliver {text!r}: {exc!r}") from None
        if not isinstance(answer, envelope.Reply):
            raise DemoError(f"{text!r} was answered with {answer}")
        return answer


class ExternalAgent:
    """Plays the agent from elsewhere: it knows its MCP tools and nothing else."""

    def __init__(
        self, driver: Driver, human: Human, narrator: Narrator, seats: Mapping[str, Seat], *, seconds: float
    ) -> None:
        self._driver = driver
        self._human = human
        self._narrator = narrator
        self._seats = seats
        self._seconds = seconds

    async def perform(self, script: Script) -> int:
        """Play the script; returns the number of steps.

        Raises:
            DemoError: a step failed, with what was expected and what came.
        """
        await self._list_peers()
        await self._delegate("calc", script.sums[0], expected=(script.sums[1],))
        await self._delegate("atlas", script.question[0], expected=(script.question[1],))
        await self._delegate("lead", script.request[0], expected=script.request[1])
        await self._human.ask(self._seats["lead"].workspace_id, script.errand, seconds=self._seconds)
        activity_id = await self._pick_up(sender="lead")
        report = await self._delegate("lead", script.verdict, expected=(script.verdict,))
        await self._pop(activity_id)
        await self._tell_user(report)
        return 9

    async def _list_peers(self) -> None:
        answer = await self._call("list_peers")
        found = {str(peer["name"]) for peer in answer.structured.get("peers", [])}
        expected = {name for name, place in self._seats.items() if not place.member.external}
        if found != expected:
            raise DemoError(f"list_peers found {sorted(found)}, expected {sorted(expected)}")
        self._narrator.event(
            "tool", "scout", f"list_peers: {', '.join(sorted(found))}", tool="list_peers", peers=sorted(found)
        )

    async def _delegate(self, name: str, task: str, *, expected: tuple[str, ...]) -> str:
        """Give a task to a peer; the bus shows the messages, so this only checks the answer."""
        place = self._seats[name]
        try:
            answer = await self._call("delegate_task", {"workspace_id": place.workspace_id, "task": task})
        except DemoError as exc:
            # A peer is not told why a workspace is not configured; the person who watches is.
            raise DemoError(f"{exc}\n--- the log of {name}:\n{tail(place.log)}") from None
        blocks = untrusted.parse(answer.text)
        if len(blocks) != 1:
            raise DemoError(f"the answer of {name} does not stand inside one boundary: {answer.text}")
        content = blocks[0].content
        for part in expected:
            if part not in content:
                raise DemoError(f"{name} was asked {task!r} and answered {content!r}; {part!r} is not in it")
        return content

    async def _pick_up(self, *, sender: str) -> str:
        answer = await self._call("wait_for_message", {"timeout_secs": min(30.0, self._seconds)})
        message = json.loads(answer.text)
        if message.get("timeout"):
            raise DemoError(f"no message arrived from {sender} within {message['timeout_secs']} s")
        if message["peer_id"] != self._seats[sender].workspace_id or message["kind"] != "peer_agent":
            raise DemoError(f"expected a message from {sender}, got {message}")
        self._narrator.event(
            "tool",
            "scout",
            f"wait_for_message: {sender} asks: {message['text']}",
            tool="wait_for_message",
            message=message,
        )
        return str(message["activity_id"])

    async def _pop(self, activity_id: str) -> None:
        answer = await self._call("inbox_pop", {"activity_id": activity_id})
        left = await self._call("inbox_peek")
        if answer.structured.get("removed") is not True or left.structured.get("messages"):
            raise DemoError(f"the message was not removed from the inbox: {answer.text}, left: {left.text}")
        self._narrator.event("tool", "scout", "inbox_pop: dealt with", tool="inbox_pop", activity_id=activity_id)

    async def _tell_user(self, report: str) -> None:
        await self._call("send_message_to_user", {"message": report})

    async def _call(self, tool: str, arguments: Mapping[str, object] | None = None) -> ToolAnswer:
        answer = await self._driver.call(tool, arguments, seconds=self._seconds)
        if answer.is_error:
            raise DemoError(f"{tool} failed: {answer.text}")
        return answer
