"""Many turns on one host, some of them cancelled, left in mid-stream or blocking the event loop, and what the host holds afterwards."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
from a2a.client import ClientConfig, create_client
from a2a.helpers import new_text_message
from a2a.types import CancelTaskRequest, Role, SendMessageConfiguration, SendMessageRequest
from a2a.utils.errors import A2AError

from ..processes import DEADLINE
from .members import Member, member, platform

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2a.client import Client

CONTEXTS = 20
KINDS: tuple[str, ...] = ("answered", "streamed", "cancelled", "left", "blocking")
WEIGHTS = (40, 20, 15, 15, 10)

ADAPTER = """
    import asyncio
    import gc
    import json
    import time

    import anyio
    from molecule_runtime.a2a.executor import ReplyExecutor
    from molecule_runtime.core.adapter import BaseAdapter

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "soaked")
        display_name = staticmethod(lambda: "Soaked")
        description = staticmethod(lambda: "Says what it holds.")

        async def setup(self, config):
            pass

        async def create_executor(self, config):
            return ReplyExecutor(self.answer)

        async def answer(self, turn):
            if turn.text == "diagnose":
                gc.collect()
                return json.dumps(sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks()))
            if turn.text.startswith("block"):
                time.sleep(0.05)
            if turn.text.startswith("linger"):
                await anyio.sleep(0.2)
            return "done: " + turn.text
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a host holds while it has nothing to do.

    Attributes:
        tasks: names of the coroutines of all asyncio tasks; one is the turn that asks.
        threads: how many, those of anyio's pool too.
        descriptors: open files and sockets.
        resident: KiB of memory.
    """

    turns: int
    tasks: tuple[str, ...]
    threads: int
    descriptors: int
    resident: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """What was done, and what the host held after the warm-up and after each segment."""

    done: dict[str, int]
    held: tuple[Held, ...]

    def as_json(self) -> str:
        return json.dumps(asdict(self))


async def soak(folder: Path, *, segments: int, turns: int, warm_up: int, seed: int = 5) -> Soak:
    """Run a warm-up and then `segments` of `turns` each on a host of its own."""
    chosen = random.Random(seed)  # noqa: S311 - the same turns each time
    done: dict[str, int] = dict.fromkeys(KINDS, 0)
    held: list[Held] = []
    async with platform(folder / "data") as admin:
        agent = await member(admin, folder / "agent", adapter=ADAPTER, delivery="push")
        async with agent.at_work() as process:
            await agent.ready()
            for number in (warm_up, *[turns] * segments):
                kinds: list[str] = chosen.choices(KINDS, WEIGHTS, k=number)
                await _segment(agent, kinds)
                for kind in kinds:
                    done[kind] += 1
                held.append(await _held(agent, process.pid, sum(done.values()), held[0] if held else None))
    return Soak(done=done, held=tuple(held))


async def _segment(agent: Member, kinds: list[str]) -> None:
    """Take the turns in `CONTEXTS` conversations at once."""
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
        client = await create_client(agent.url, ClientConfig(httpx_client=http))
        patient = await create_client(agent.url, ClientConfig(streaming=False, httpx_client=http))

        async def converse(number: int) -> None:
            for kind in kinds[number::CONTEXTS]:
                with anyio.fail_after(DEADLINE):
                    await _turn(client, patient, kind, f"c-{number}")

        async with anyio.create_task_group() as group:
            for number in range(CONTEXTS):
                group.start_soon(converse, number)


def _request(text: str, context: str, *, wait: bool = True) -> SendMessageRequest:
    message = new_text_message(text, context_id=context, role=Role.ROLE_USER)
    return SendMessageRequest(message=message, configuration=SendMessageConfiguration(return_immediately=not wait))


async def _turn(streaming: Client, patient: Client, kind: str, context: str) -> None:
    match kind:
        case "answered":
            answers = [event async for event in patient.send_message(_request("hello", context))]
            assert "done: hello" in str(answers), answers
        case "streamed":
            answers = [event async for event in streaming.send_message(_request("linger", context))]
            assert "done: linger" in str(answers), answers
        case "blocking":
            answers = [event async for event in patient.send_message(_request("block", context))]
            assert "done: block" in str(answers), answers
        case "cancelled":
            events = [event async for event in patient.send_message(_request("linger", context, wait=False))]
            if events[0].task.id:
                with contextlib.suppress(A2AError):  # it had ended by then
                    await patient.cancel_task(CancelTaskRequest(id=events[0].task.id))
        case _:
            # The connection goes away with the answer under way.
            with anyio.move_on_after(0.1):
                async for _ in streaming.send_message(_request("linger", context)):
                    pass


async def _held(agent: Member, pid: int, turns: int, first: Held | None) -> Held:
    """Look once everything has ended: as soon as nothing more is held than at first, or at the end of the deadline."""

    async def look() -> Held:
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
            client = await create_client(agent.url, ClientConfig(streaming=False, httpx_client=http))
            answers = [event async for event in client.send_message(_request("diagnose", f"d-{turns}"))]
        text = answers[-1].message.parts[0].text
        return await anyio.to_thread.run_sync(_seen_from_outside, pid, turns, tuple(json.loads(text)))

    previous = await look()
    with anyio.move_on_after(30):
        while True:
            await anyio.sleep(0.2)
            now = await look()
            if not leaks(first or previous, now):
                return now
            previous = now
    return previous


def leaks(first: Held, last: Held) -> dict[str, Any]:
    """Return what a host holds at the end and did not at first. Memory is for the caller to judge."""
    different: dict[str, Any] = {}
    names: tuple[tuple[str, Callable[[Held], object]], ...] = (
        ("tasks", lambda held: held.tasks),
        ("threads", lambda held: held.threads),
        ("descriptors", lambda held: held.descriptors),
    )
    for name, of in names:
        if of(first) != of(last):
            different[name] = (of(first), of(last))
    return different


def _seen_from_outside(pid: int, turns: int, tasks: tuple[str, ...]) -> Held:
    process = Path(f"/proc/{pid}")
    status = (process / "status").read_text()
    (resident,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return Held(
        turns=turns,
        tasks=tasks,
        threads=sum(1 for _ in (process / "task").iterdir()),
        descriptors=sum(1 for _ in (process / "fd").iterdir()),
        resident=int(resident),
    )
