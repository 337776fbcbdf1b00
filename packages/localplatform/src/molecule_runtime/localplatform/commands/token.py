"""`molecule-local token`: create, list and revoke the tokens of workspaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import console
from molecule_runtime.localplatform.commands import options
from molecule_runtime.localplatform.commands.remote import Remote, path_of, pick, rows

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands below `token`."""
    verbs = options.Verbs(parser)
    verb = verbs.add(
        "create",
        create,
        help="print a new token of a workspace, once",
        examples="molecule-local token create alice > alice.token\nmolecule-local token create alice --json",
    )
    options.add_remote(verb)
    options.add_workspace(verb)

    verb = verbs.add(
        "list",
        list_live,
        help="list the live tokens of a workspace, never their values",
        examples="molecule-local token list alice",
    )
    options.add_remote(verb)
    options.add_workspace(verb)

    verb = verbs.add("revoke", revoke, help="revoke a token", examples="molecule-local token revoke alice 5f0c6f1e")
    options.add_remote(verb)
    options.add_workspace(verb)
    verb.add_argument("token_id", metavar="TOKEN_ID", help="its id, or the beginning of it, as `token list` shows it")


def create(args: argparse.Namespace) -> int:
    """Mint a token."""
    remote = Remote.of(args)
    made = cast("dict[str, Any]", remote.call("POST", _path(remote, args)))
    if args.json:
        console.emit(made)
    else:
        console.say(str(made["auth_token"]))
    return 0


def list_live(args: argparse.Namespace) -> int:
    """List the live tokens."""
    remote = Remote.of(args)
    found = remote.get(_path(remote, args))
    if args.json:
        console.emit(found)
        return 0
    live = rows(found.get("tokens"))
    if not live:
        console.say("no live tokens")
        return 0
    cells = [
        (str(row["id"]), f"{row['prefix']}…", console.age(row.get("created_at")), console.age(row.get("last_used_at")))
        for row in live
    ]
    console.say(console.table(("ID", "BEGINS", "CREATED", "LAST USED"), cells))
    return 0


def revoke(args: argparse.Namespace) -> int:
    """Revoke a token."""
    remote = Remote.of(args)
    path = _path(remote, args)
    listing = f"molecule-local token list {args.workspace}"
    row = pick(rows(remote.get(path).get("tokens")), args.token_id, what="live token", listing=listing, name="prefix")
    done = remote.call("DELETE", path + path_of(row["id"]))
    if args.json:
        console.emit(done)
    else:
        console.say(f"revoked {row['id']}")
    return 0


def _path(remote: Remote, args: argparse.Namespace) -> str:
    return path_of("workspaces", remote.find(args.workspace)["id"], "tokens")
