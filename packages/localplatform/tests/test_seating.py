"""Seats: the same workspaces, tokens and folders at each start, on a real platform."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from molecule_runtime.localplatform import LocalSettings, serve
from molecule_runtime.localplatform.errors import TeamError
from molecule_runtime.localplatform.team.members import EXTERNAL, Member, Team
from molecule_runtime.localplatform.team.seating import Seated, take_seats
from molecule_runtime.localplatform.team.staffing import office_of

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.localplatform.team.reports import Report

    from .support import World

pytestmark = pytest.mark.anyio

LEAD = Member(name="lead", role="Leads", runtime="lead")
CALC = Member(name="calc", role="Counts", runtime="calculator", parent="lead")
SCOUT = Member(name="scout", runtime=EXTERNAL, external=True, delivery="poll", parent="lead")


async def seat(world: World, *members: Member, prune: bool = False) -> tuple[Seated, list[tuple[str, str]]]:
    reports: list[Report] = []
    team = Team(name="team", members=members)
    seated = await take_seats(team, office_of(world.platform), reports.append, prune=prune)
    return seated, [(report.kind, report.member) for report in reports]


async def rows(world: World) -> dict[str, dict[str, Any]]:
    answer = await world.http.get("/workspaces", headers=world.admin)
    found = answer.json()
    assert len({row["name"] for row in found}) == len(found)
    return {row["name"]: row for row in found}


def tokens(seated: Seated) -> dict[str, str]:
    return {name: place.token_file.read_text() for name, place in seated.seats.items()}


async def test_members_get_workspaces_tokens_and_folders(world: World) -> None:
    seated, said = await seat(world, LEAD, CALC, SCOUT)
    assert said == [("created", "lead"), ("created", "calc"), ("created", "scout")]
    found = await rows(world)
    assert {name: (row["role"], row["runtime"], row["delivery_mode"]) for name, row in found.items()} == {
        "lead": ("Leads", "lead", "push"),
        "calc": ("Counts", "calculator", "push"),
        "scout": (None, "external", "poll"),
    }
    assert {row["parent_id"] for row in found.values()} == {None, found["lead"]["id"]}
    for name, place in seated.seats.items():
        assert place.workspace_id == found[name]["id"]
        assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(place.token_file.stat().st_mode) == 0o600
        bearer = {"Authorization": f"Bearer {place.token_file.read_text()}"}
        answer = await world.http.get(f"/workspaces/{place.workspace_id}/tokens", headers=bearer)
        assert answer.status_code == 200
    config = yaml.safe_load((seated.seats["calc"].folder / "config.yaml").read_text())
    assert (config["name"], config["runtime"], config["a2a"]["port"]) == (
        "calc",
        "calculator",
        seated.seats["calc"].port,
    )
    assert not (seated.seats["scout"].folder / "config.yaml").exists()


async def test_a_second_time_changes_nothing(world: World) -> None:
    first, _ = await seat(world, LEAD, CALC, SCOUT)
    before, held = await rows(world), tokens(first)
    second, said = await seat(world, LEAD, CALC, SCOUT)
    assert said == []
    assert second.seats == first.seats  # ids, folders and ports
    assert (await rows(world), tokens(second)) == (before, held)


async def test_role_parent_and_runtime_follow_the_file(world: World) -> None:
    first, _ = await seat(world, LEAD, CALC, SCOUT)
    changed = replace(CALC, parent=None, role="Calculates", runtime="table")
    second, said = await seat(world, changed, replace(LEAD, parent="calc", role=None), SCOUT)
    assert said == [("updated", "calc"), ("updated", "lead")]
    found = await rows(world)
    assert {name: seat.workspace_id for name, seat in second.seats.items()} == {
        name: seat.workspace_id for name, seat in first.seats.items()
    }
    assert (found["calc"]["role"], found["calc"]["runtime"], found["calc"]["parent_id"]) == (
        "Calculates",
        "table",
        None,
    )
    # A role that the file does not name stays what it was.
    assert (found["lead"]["role"], found["lead"]["parent_id"]) == ("Leads", found["calc"]["id"])


async def test_configuration_prompt_and_files_follow_the_file(world: World, tmp_path: Path) -> None:
    table, skills = tmp_path / "table.csv", tmp_path / "skills"
    table.write_text("a\n1\n")
    (skills / "one").mkdir(parents=True)
    (skills / "one" / "SKILL.md").write_text("first")
    full = replace(LEAD, config={"model": "x:one", "a2a": {"streaming": True}}, prompt="Lead!", files=(table, skills))
    seated, _ = await seat(world, full)
    folder = seated.seats["lead"].folder
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["model"], config["a2a"]["streaming"], config["a2a"]["port"]) == (
        "x:one",
        True,
        seated.seats["lead"].port,
    )
    assert (folder / "system-prompt.md").read_text() == "Lead!"
    assert (folder / "table.csv").read_text() == "a\n1\n"
    (skills / "one" / "SKILL.md").write_text("second")
    await seat(world, replace(full, config={"model": "x:two"}))
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"] == "x:two"
    assert (folder / "skills" / "one" / "SKILL.md").read_text() == "second"


async def test_without_what_the_folder_remembers_members_are_found_by_name(world: World) -> None:
    first, _ = await seat(world, LEAD, CALC)
    memory = world.platform.settings.data / "team.json"
    for content in (b"", b"{not json", b"[1]", b'{"members": {"lead": 5, "calc": {"workspace_id": 7}}}'):
        memory.write_bytes(content)
        again, said = await seat(world, LEAD, CALC)
        assert said == []
        assert again.seats["calc"].workspace_id == first.seats["calc"].workspace_id


async def test_a_workspace_that_somebody_made_is_taken_when_name_and_parent_fit(world: World) -> None:
    made = await world.create("lead")
    await world.create("calc")  # at the top, so it is another one
    seated, said = await seat(world, LEAD, replace(CALC, name="adder"))
    assert seated.seats["lead"].workspace_id == made.id
    assert said == [("updated", "lead"), ("created", "adder")]


async def test_two_workspaces_that_fit_are_refused(world: World) -> None:
    one, other = await world.create("lead"), await world.create("lead")
    with pytest.raises(TeamError) as caught:
        await seat(world, LEAD)
    assert one.id in str(caught.value)
    assert other.id in str(caught.value)


async def test_a_removed_workspace_is_made_anew_with_another_token(world: World) -> None:
    first, _ = await seat(world, LEAD)
    held = tokens(first)
    place = first.seats["lead"]
    assert (await world.http.delete(f"/workspaces/{place.workspace_id}", headers=world.admin)).status_code == 200
    second, said = await seat(world, LEAD)
    assert said == [("created", "lead")]
    assert second.seats["lead"].workspace_id != place.workspace_id
    assert second.seats["lead"].folder == place.folder
    assert tokens(second) != held


@pytest.mark.parametrize("damage", ["revoked", "deleted", "garbage", "two words"])
async def test_a_token_that_is_no_good_is_replaced(world: World, damage: str) -> None:
    seated, _ = await seat(world, LEAD)
    place = seated.seats["lead"]
    if damage == "revoked":
        listed = await world.http.get(f"/workspaces/{place.workspace_id}/tokens", headers=world.admin)
        token_id = listed.json()["tokens"][0]["id"]
        await world.http.delete(f"/workspaces/{place.workspace_id}/tokens/{token_id}", headers=world.admin)
    elif damage == "deleted":
        place.token_file.unlink()
    else:
        place.token_file.write_text(damage)
    seated, said = await seat(world, LEAD)
    assert said == []
    bearer = {"Authorization": f"Bearer {place.token_file.read_text()}"}
    assert (await world.http.get(f"/workspaces/{place.workspace_id}/tokens", headers=bearer)).status_code == 200


async def test_who_left_the_file_is_left_alone_unless_pruned(world: World) -> None:
    low = Member(name="low", runtime="table", parent="calc")
    first, _ = await seat(world, LEAD, CALC, low)
    _, said = await seat(world, LEAD)
    assert said == [("left", "low"), ("left", "calc")]
    assert set(await rows(world)) == {"lead", "calc", "low"}
    # From the bottom up; the folder stays, its token does not.
    _, said = await seat(world, LEAD, prune=True)
    assert said == [("pruned", "low"), ("pruned", "calc")]
    assert set(await rows(world)) == {"lead"}
    assert first.seats["calc"].folder.is_dir()
    assert not first.seats["calc"].token_file.exists()
    _, said = await seat(world, LEAD, prune=True)
    assert said == []


async def test_pruning_spares_a_workspace_with_others_below_it(world: World) -> None:
    seated, _ = await seat(world, LEAD, CALC)
    await world.create("guest", parent_id=seated.seats["calc"].workspace_id)
    _, said = await seat(world, LEAD, prune=True)
    assert said == [("left", "calc")]
    assert set(await rows(world)) == {"lead", "calc", "guest"}


async def test_a_paused_member_is_not_to_be_started(world: World) -> None:
    seated, _ = await seat(world, LEAD, CALC)
    path = f"/workspaces/{seated.seats['calc'].workspace_id}/pause"
    assert (await world.http.post(path, headers=world.admin)).status_code == 200
    again, _ = await seat(world, LEAD, CALC)
    assert again.resting == {"calc"}


async def test_a_folder_that_cannot_be_written_is_named(world: World) -> None:
    (world.platform.settings.data / "team").write_text("a file")
    with pytest.raises(TeamError, match="lead"):
        await seat(world, LEAD)


async def test_a_platform_of_one_organisation_is_addressed_as_such(settings: LocalSettings) -> None:
    async with serve(replace(settings, org_id="org-7")) as platform:
        seated = await take_seats(Team(name="team", members=(LEAD,)), office_of(platform), lambda report: None)
        async with httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
            path = f"/workspaces/{seated.seats['lead'].workspace_id}"
            assert (await http.get(path, headers={"X-Molecule-Org-Id": "org-7"})).json()["name"] == "lead"
