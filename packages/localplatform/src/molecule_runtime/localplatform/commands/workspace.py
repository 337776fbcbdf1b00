"""`molecule-local workspace`: create, list and remove workspaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import console
from molecule_runtime.localplatform.commands import options
from molecule_runtime.localplatform.commands.remote import Remote, path_of

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands below `workspace`."""
    verbs = options.Verbs(parser)
    verb = verbs.add(
        "create",
        create,
        help="create a workspace",
        examples="""
molecule-local workspace create team
molecule-local workspace create alice --parent team --external --poll
molecule-local workspace create calc --parent team --runtime calculator --role 'Evaluates arithmetic' --json
""",
    )
    options.add_remote(verb)
    verb.add_argument("name", metavar="NAME")
    verb.add_argument("--role", help="what it does, for its peers to read")
    verb.add_argument(
        "--parent", metavar="WORKSPACE", help="name or id of the one above it; siblings, parent and children may talk"
    )
    verb.add_argument("--runtime", help="which runtime serves it")
    verb.add_argument("--external", action="store_true", help="an agent that runs elsewhere; prints its token, once")
    verb.add_argument("--poll", action="store_true", help="messages wait in its inbox instead of being sent to a URL")

    verb = verbs.add(
        "list",
        list_all,
        help="list the workspaces",
        examples="molecule-local workspace list\nmolecule-local workspace list --json",
    )
    options.add_remote(verb)

    verb = verbs.add(
        "rm",
        remove,
        help="remove a workspace; its tokens die",
        examples="molecule-local workspace rm alice\nmolecule-local workspace rm team --recursive",
    )
    options.add_remote(verb)
    options.add_workspace(verb)
    verb.add_argument("--recursive", action="store_true", help="with everything below it")


def create(args: argparse.Namespace) -> int:
    """Create a workspace."""
    remote = Remote.of(args)
    body: dict[str, Any] = {"name": args.name}
    optional = {"role": args.role, "runtime": args.runtime}
    body.update({key: value for key, value in optional.items() if value})
    if args.parent:
        body["parent_id"] = remote.find(args.parent)["id"]
    if args.external:
        body["external"] = True
    if args.poll:
        body["delivery_mode"] = "poll"
    made = cast("dict[str, Any]", remote.call("POST", "/workspaces", body=body))
    if args.json:
        console.emit(made)
        return 0
    connection = cast("dict[str, str] | None", made.get("connection"))
    console.say(f"created {console.one_line(args.name)} ({made['status']})")
    console.say(f"  WORKSPACE_ID={made['id']}")
    console.say(f"  PLATFORM_URL={remote.url}")
    if connection:
        console.say(f"  MOLECULE_WORKSPACE_TOKEN={connection['auth_token']}")
        console.say("Save the token now, it is not shown again. With these variables set, connect with: molecule-mcp")
    else:
        console.say(
            "With these variables set, start its host with: molecule-runtime (it gets its token when it first registers)"
        )
    return 0


def list_all(args: argparse.Namespace) -> int:
    """List the workspaces."""
    rows = Remote.of(args).workspaces()
    if args.json:
        console.emit(rows)
        return 0
    if not rows:
        console.say("no workspaces")
        return 0
    names = {row["id"]: console.one_line(str(row.get("name") or "")) for row in rows}
    console.say(
        console.table(
            ("ID", "NAME", "STATUS", "PARENT", "DELIVERY", "RUNTIME", "SEEN"),
            [
                (
                    str(row["id"]),
                    names[row["id"]],
                    str(row.get("status") or "-"),
                    names.get(row.get("parent_id"), "-"),
                    str(row.get("delivery_mode") or "-"),
                    console.one_line(str(row.get("runtime") or "-")),
                    console.age(row.get("last_heartbeat_at")),
                )
                for row in rows
            ],
        )
    )
    return 0


def remove(args: argparse.Namespace) -> int:
    """Remove a workspace."""
    remote = Remote.of(args)
    row = remote.find(args.workspace)
    done: Any = remote.call(
        "DELETE",
        path_of("workspaces", row["id"]),
        query={"confirm": "true"} if args.recursive else None,
        conflict="repeat with --recursive",
    )
    if args.json:
        console.emit(done)
        return 0
    below = cast("dict[str, Any]", done).get("cascade_deleted") if isinstance(done, dict) else 0
    console.say(f"removed {console.one_line(str(row['name']))}{f' and {below} below it' if below else ''}")
    return 0
