"""`molecule-local status`: the running platform and its workspaces, as the tree that they form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.core import console
from molecule_runtime.core.identity import short_id
from molecule_runtime.localplatform.commands import options
from molecule_runtime.localplatform.commands.remote import Remote

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    Row = dict[str, Any]

_SHORTEST_TASK = 20


def add_arguments(parser: options.Parser) -> None:
    """Add the arguments of `status`."""
    options.add_remote(parser)
    parser.add_examples("""
molecule-local status
molecule-local status --json
""")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show who is there."""
    remote = Remote.of(args)
    remote.get("/health")
    rows = remote.workspaces()
    if args.json:
        console.emit({"url": remote.url, "status": "ok", "workspaces": rows})
        return 0
    online = sum(1 for row in rows if row.get("status") == "online")
    console.say(f"molecule-local answers at {remote.url}: {console.count(len(rows), 'workspace')}, {online} online")
    if rows:
        console.say(render(rows, console.width()))
    else:
        console.say("make one with: molecule-local workspace create NAME")
    return 0


def render(rows: list[Row], width: int) -> str:
    """Lay out workspaces as a tree, one a line, cut to a width."""
    with_queue = any("queue_depth" in row for row in rows)
    head = ["NAME", "STATUS", "SEEN", "DELIVERY", "RUNTIME", "BUSY", *(["QUEUE"] if with_queue else []), "ID", "TASK"]
    cells: list[list[str]] = []
    for indent, row in tree(rows):
        cells.append(
            [
                indent + console.one_line(str(row.get("name") or "")),
                str(row.get("status") or "-"),
                console.age(row.get("last_heartbeat_at")),
                str(row.get("delivery_mode") or "-"),
                console.one_line(str(row.get("runtime") or "-")),
                f"{row.get('active_tasks') or 0}/{row.get('max_concurrent_tasks') or 1}",
                *([str(row.get("queue_depth") or 0)] if with_queue else []),
                short_id(str(row["id"])),
                console.one_line(str(row.get("current_task") or "")),
            ]
        )
    fixed = console.table(head[:-1], [line[:-1] for line in cells]).splitlines()
    taken = max(console.measure(line) for line in fixed)
    room = max(_SHORTEST_TASK, width - taken - 2)
    tasks = [head[-1], *(line[-1] for line in cells)]
    if not any(tasks[1:]):
        return "\n".join(fixed)
    return "\n".join(
        f"{console.pad(line, taken)}  {console.cut(task, room)}".rstrip()
        for line, task in zip(fixed, tasks, strict=True)
    )


def tree(rows: list[Row]) -> Iterator[tuple[str, Row]]:
    """Return each row behind what draws its place: parents before their children, in the order in which they came."""
    ids = {row["id"] for row in rows}
    children: dict[str | None, list[Row]] = {}
    for row in rows:
        parent = row.get("parent_id")
        # One whose parent was removed stands at the top: nobody is left out.
        children.setdefault(parent if parent in ids else None, []).append(row)
    waiting = [("", "", row) for row in reversed(children.get(None, []))]
    while waiting:
        lead, branch, row = waiting.pop()
        yield lead + branch, row
        below = children.get(row["id"], [])
        inner = lead + {"": "", "├ ": "│ ", "└ ": "  "}[branch]
        waiting += [(inner, "└ " if child is below[-1] else "├ ", child) for child in reversed(below)]
