"""A host that reads its messages from the platform's inbox, against a real `molecule-local`: killed at any time, it loses none."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from ..processes import ended
from .members import person_says, platform, team, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

KILLS = 3
MESSAGES = 12


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_person_and_a_peer_are_answered_and_answers_are_not_answered_in_turn(tmp_path: Path) -> None:
    async with platform(tmp_path / "data") as admin:
        host, peer = await team(admin, tmp_path, "host", "peer")
        # Sent before the host ever ran.
        await person_says(host, "hello")
        async with host.at_work(), peer.at_work():

            async def person_is_answered() -> bool:
                return await host.told_the_person() == ["done: hello"]

            await until(person_is_answered, "an answer in the chat", host, peer)
            await peer.send(host, "sum", contextId="c-1", messageId="m-1", metadata={"source_workspace_id": "liar"})

            async def peer_is_answered() -> bool:
                return bool(await peer.told_by(host))

            await until(peer_is_answered, "an answer to the peer", host, peer)
            (answer,) = await peer.told_by(host)
            assert answer["parts"] == [{"kind": "text", "text": "done: sum"}]
            assert answer["contextId"] == "c-1"
            assert answer["metadata"] == {"in_reply_to": "m-1", "source_workspace_id": host.id}
            # The peer's agent hears the answer, and that is the end of it.
            await until(lambda: peer.runs() == ["done: sum"], "the peer hears it", host, peer)
            last = (await peer.rows())[-1]["seq"]

            async def peer_let_go() -> bool:
                return bool(await peer.acknowledged() >= last)

            await until(peer_let_go, "the peer let go of it", host, peer)
            assert host.runs() == ["hello", "sum"]
            assert len(await host.told_by(peer)) == 1
            assert await peer.told_the_person() == []


async def test_a_host_that_is_killed_again_and_again_handles_every_message(tmp_path: Path) -> None:
    async with platform(tmp_path / "data") as admin:
        host, peer = await team(admin, tmp_path, "host", "peer")
        for number in range(MESSAGES):
            await person_says(host, f"hold person {number}", contextId=f"c-{number % 4}")
            await peer.send(host, f"hold peer {number}")
        go = host.root / "go"
        for number in range(KILLS):
            before = len(host.runs())
            async with host.at_work() as process:
                await until(lambda seen=before: len(host.runs()) >= seen + 2, "turns begin", host)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                if number == KILLS - 1:
                    # This time some answers leave before the end.
                    go.touch()
                    await until(lambda seen=before: len(host.runs()) >= seen + 8, "turns end", host)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                process.kill()
        async with host.at_work() as process:

            async def all_answered() -> bool:
                told = set(await host.told_the_person())
                answers = {message["parts"][0]["text"] for message in await peer.told_by(host)}
                return len(told) >= MESSAGES and len(answers) >= MESSAGES

            await until(all_answered, "an answer to every message", host)

            async def all_let_go() -> bool:
                rows = [row for row in await host.rows() if row["method"] != "notify"]
                return bool(await host.acknowledged() >= rows[-1]["seq"])

            await until(all_let_go, "every row is acknowledged", host)
            process.terminate()
            assert await ended(process) == 0
        told = Counter(await host.told_the_person())
        assert set(told) == {f"done: hold person {number}" for number in range(MESSAGES)}
        answers = Counter(message["messageId"] for message in await peer.told_by(host))
        # A peer that is told twice is told the same message: the platform and its host know it by its id.
        assert len(answers) == MESSAGES
        runs = len(host.runs())
        # Nothing comes again after all of it was let go of.
        await person_says(host, "one more")
        async with host.at_work():

            async def last_is_answered() -> bool:
                return "done: one more" in await host.told_the_person()

            await until(last_is_answered, "an answer to the last message", host)
        assert host.runs()[runs:] == ["one more"]


async def test_a_message_with_which_the_host_ends_each_time_is_given_up_in_the_end(tmp_path: Path) -> None:
    async with platform(tmp_path / "data") as admin:
        (host,) = await team(admin, tmp_path, "host")
        await person_says(host, "crash")
        for _ in range(5):
            async with host.at_work() as process:
                assert await ended(process) == 9
        await person_says(host, "hello")
        async with host.at_work():

            async def answered() -> bool:
                return "done: hello" in await host.told_the_person()

            await until(answered, "the next message is answered", host)
        assert host.runs() == ["crash"] * 5 + ["hello"]
        assert any("given up" in said for said in await host.told_the_person())


async def test_a_stop_in_the_midst_of_a_turn_leaves_the_message_for_the_next_start(tmp_path: Path) -> None:
    async with platform(tmp_path / "data") as admin:
        (host,) = await team(admin, tmp_path, "host")
        await person_says(host, "hold")
        async with host.at_work() as process:
            await until(lambda: host.runs() == ["hold"], "the turn begins", host)
            process.terminate()
            assert await ended(process) == 0
        assert await host.told_the_person() == []
        (host.root / "go").touch()
        async with host.at_work():

            async def answered() -> bool:
                return await host.told_the_person() == ["done: hold"]

            await until(answered, "it is answered", host)
        assert host.runs() == ["hold", "hold"]
