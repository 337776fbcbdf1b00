"""`molecule-local connect`: put an agent that lives elsewhere on the team."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from molecule_runtime.core import console
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.secretfile import read_secret, write_private
from molecule_runtime.core.tokens import TOKEN_FILE_NAME
from molecule_runtime.localplatform import clients
from molecule_runtime.localplatform.clients import CLIENTS, Place
from molecule_runtime.localplatform.commands import options
from molecule_runtime.localplatform.commands.remote import Remote, path_of
from molecule_runtime.localplatform.errors import CommandError

if TYPE_CHECKING:
    import argparse

    from molecule_runtime.localplatform.clients import Client

FOLDER = "clients"
"""In the data folder: a folder for each workspace that was connected, with its token."""


def add_arguments(parser: options.Parser) -> None:
    """Add the arguments of `connect`."""
    options.add_remote(parser)
    options.add_workspace(parser)
    parser.add_argument(
        "--client",
        metavar="CLIENT",
        help=f"the MCP client to configure: {', '.join(client.key for client in CLIENTS)} (default: environment variables)",
    )
    parser.add_argument(
        "--write", action="store_true", help="write it into the client's own file instead of printing it"
    )
    parser.add_argument(
        "--config-path",
        metavar="DIR",
        type=Path,
        help="with --write, for clients whose file is in a project: its folder (default: the home directory)",
    )
    parser.add_argument(
        "--name",
        default=clients.SERVER,
        help="what the server is called there (default: %(default)s); another for a second workspace",
    )
    parser.add_examples("""
molecule-local connect alice
molecule-local connect alice --client claude-code | sh
molecule-local connect alice --client codex >> ~/.codex/config.toml
molecule-local connect alice --client gemini-cli --write
""")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print or write the configuration."""
    client = None if args.client is None else _client(args.client)
    if args.write and client is None:
        raise ConfigurationError("--write needs --client: which client's file is it?")
    if not args.name.strip() or any(ord(character) < 32 for character in args.name):
        raise ConfigurationError(f"--name {args.name!r} must be text without control characters")
    remote = Remote.of(args)
    workspace = remote.find(args.workspace)
    place = Place(
        workspace_id=workspace["id"],
        agent=console.one_line(str(workspace.get("name") or "")),
        platform_url=remote.url,
        token_file=_token_file(remote, workspace["id"]),
        folder=remote.folder / FOLDER / workspace["id"],
        org_id=remote.org_id,
        server=args.name,
    )
    if client is not None and args.write:
        return _write(args, place, client)
    return _print(args, place, client)


def _client(key: str) -> Client:
    found = {client.key: client for client in CLIENTS}
    if (client := found.get(key.strip().lower().replace("_", "-"))) is None:
        raise ConfigurationError(
            f"--client {key!r} is not known; use one of {', '.join(found)} (json suits most others)"
        )
    return client


def _print(args: argparse.Namespace, place: Place, client: Client | None) -> int:
    text = clients.environment_block(place) if client is None else client.render(place)
    if args.json:
        console.emit(
            {
                **_about(place),
                "client": None if client is None else client.key,
                "where": "environment of molecule-mcp" if client is None else client.where,
                "text": text,
                "command": clients.server_command(),
                "variables": place.variables(),
            }
        )
        return 0
    console.say(text)
    if client is None:
        # As comments: what is printed can be read by a shell as it is.
        console.say(f"# then: {' '.join(clients.server_command())}")
        console.say("# or for a client, with --client:")
        width = max(len(known.key) for known in CLIENTS)
        for known in CLIENTS:
            console.say(f"#   {known.key.ljust(width)}  {known.title}")
    else:
        console.remark(f"{client.title}: {client.where} what stands above; its token is in {place.token_file}")
    _remark_missing()
    return 0


def _write(args: argparse.Namespace, place: Place, client: Client) -> int:
    if not client.runtime:
        raise ConfigurationError(
            f"--write does not know the file of {client.key}; without it, the text to add is printed"
        )
    # Late: it looks through everything that is installed.
    from molecule_runtime.core.adapter import mcp_port

    folder = Path.home() if args.config_path is None else args.config_path.expanduser().absolute()
    path = mcp_port.register(client.runtime, str(folder), place.server, place.spec())
    if args.json:
        console.emit({**_about(place), "client": client.key, "path": str(path)})
    else:
        console.say(f"{client.title} finds the server {place.server!r} in {path}; start it anew")
    _remark_missing()
    return 0


def _about(place: Place) -> dict[str, Any]:
    return {
        "workspace_id": place.workspace_id,
        "platform_url": place.platform_url,
        "token_file": str(place.token_file),
        "name": place.server,
    }


def _remark_missing() -> None:
    if not clients.is_server_there():
        console.remark(f"molecule-mcp is not on this machine yet; install it with: pipx install {clients.WHEEL}")


def _token_file(remote: Remote, workspace_id: str) -> Path:
    """Return the file with a token of the workspace, which is made where there is none that still counts."""
    path = remote.folder / FOLDER / workspace_id / TOKEN_FILE_NAME
    try:
        if remote.accepts(read_secret(path), workspace_id):
            return path
    except (OSError, ValueError):
        pass  # there is none, or it is not usable
    made = remote.call("POST", path_of("workspaces", workspace_id, "tokens"))
    try:
        write_private(path, str(made["auth_token"]))
    except OSError as exc:
        raise CommandError(f"token file {str(path)!r} cannot be written: {exc.strerror or exc}") from None
    return path
