"""The command line of `molecule-local`: runs the platform, and speaks HTTP to one that runs.

Exit codes: 0 done, 1 the operation failed, 2 wrong usage or settings. Errors are one line on stderr.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import logs
from molecule_runtime.core.errors import ConfigurationError, MoleculeError
from molecule_runtime.core.identity import validate_platform_url, validate_workspace_id
from molecule_runtime.core.secretfile import read_secret, write_private
from molecule_runtime.core.version import version_of
from molecule_runtime.localplatform.errors import LocalPlatformError
from molecule_runtime.localplatform.settings import DEFAULT_HOST, DEFAULT_PORT, LocalSettings, default_data_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

DISTRIBUTION = "molecule-runtime-localplatform"
ENDPOINT_FILE = "endpoint"
"""In the data folder while the platform runs: where it answers."""

_HTTP_SECONDS = 10.0
_MAX_PORT = 65535


class CommandError(LocalPlatformError):
    """A command did not do what was asked; the message is the line that the user sees."""


def main(argv: list[str] | None = None) -> int:
    """Run `molecule-local` and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        parsed = _parser(arguments).parse_args(arguments)
        return int(parsed.run(parsed))
    except SystemExit as exc:  # argparse: 0 after --help and --version, 2 after a usage error
        return exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 2
    except ConfigurationError as exc:
        _complain(str(exc))
        return 2
    except MoleculeError as exc:
        _complain(str(exc))
        return 1
    except BrokenPipeError:
        # The reader of our output left. Python would complain again while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="molecule-local",
        description="The embedded molecule platform: registry, A2A proxy, inbox and delegations on one SQLite file.",
    )
    parser.add_argument("--version", action="version", version=f"molecule-local {version_of(DISTRIBUTION)}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data",
        type=Path,
        help="data folder (default: $MOLECULE_LOCAL_DATA, else $XDG_DATA_HOME/molecule-local, else ~/.local/share/molecule-local)",
    )
    remote = argparse.ArgumentParser(add_help=False, parents=[data])
    remote.add_argument(
        "--url",
        help=f"the running platform (default: the one on the data folder, else http://{DEFAULT_HOST}:{DEFAULT_PORT})",
    )
    remote.add_argument("--json", action="store_true", help="print JSON")

    up = commands.add_parser("up", parents=[data], help="run the platform until SIGINT or SIGTERM")
    up.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s)")
    up.add_argument("--port", type=_port, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    up.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name under which clients reach the platform, such as host.docker.internal; may be repeated",
    )
    up.add_argument("--json", action="store_true", help="print one JSON line instead of text once the platform answers")
    up.set_defaults(run=_up)

    demo = commands.add_parser("demo", help="watch agents work together on a platform of their own")
    _add_demo(demo, wanted=bool(arguments) and arguments[0] == "demo")

    status = commands.add_parser("status", parents=[remote], help="show the running platform and its workspaces")
    status.set_defaults(run=_status)

    workspace = commands.add_parser("workspace", help="create, list and remove workspaces")
    verbs = workspace.add_subparsers(title="commands", metavar="COMMAND", required=True)
    create = verbs.add_parser("create", parents=[remote], help="create a workspace")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--role", help="what it does, for its peers to read")
    create.add_argument("--parent", metavar="ID", help="the workspace above it; siblings, parent and children may talk")
    create.add_argument("--runtime", help="which runtime serves it")
    create.add_argument("--external", action="store_true", help="an agent that runs elsewhere; prints its token, once")
    create.add_argument("--poll", action="store_true", help="messages wait in its inbox instead of being sent to a URL")
    create.set_defaults(run=_workspace_create)
    listing = verbs.add_parser("list", parents=[remote], help="list the workspaces")
    listing.set_defaults(run=_workspace_list)
    remove = verbs.add_parser("rm", parents=[remote], help="remove a workspace; its tokens die")
    remove.add_argument("id", metavar="ID")
    remove.add_argument("--recursive", action="store_true", help="with everything below it")
    remove.set_defaults(run=_workspace_remove)

    token = commands.add_parser("token", help="create, list and revoke workspace tokens")
    verbs = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    create = verbs.add_parser("create", parents=[remote], help="print a new token, once")
    create.add_argument("id", metavar="ID", help="workspace")
    create.set_defaults(run=_token_create)
    listing = verbs.add_parser(
        "list", parents=[remote], help="list the live tokens of a workspace (never their values)"
    )
    listing.add_argument("id", metavar="ID", help="workspace")
    listing.set_defaults(run=_token_list)
    revoke = verbs.add_parser("revoke", parents=[remote], help="revoke a token")
    revoke.add_argument("id", metavar="ID", help="workspace")
    revoke.add_argument("token_id", metavar="TOKEN_ID", help="as `token list` shows it")
    revoke.set_defaults(run=_token_revoke)
    return parser


def _add_demo(parser: argparse.ArgumentParser, *, wanted: bool) -> None:
    """Register the demo; its module is imported only when it is asked for, since it brings in the other wheels."""
    if not wanted:
        parser.set_defaults(run=_demo_missing)
        return
    try:
        from molecule_runtime.localplatform.demo import command
    except ImportError as exc:
        raise ConfigurationError(
            f"the demo needs a wheel that is not installed ({exc}); install it with: pip install '{DISTRIBUTION}[demo]'"
        ) from exc
    command.add_arguments(parser)
    parser.set_defaults(run=command.run)


def _demo_missing(args: argparse.Namespace) -> int:
    del args
    raise ConfigurationError("options stand behind the command: molecule-local demo [options]")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"port {text!r} is not a number from 0 to {_MAX_PORT}")
    return int(text)


# --- up -------------------------------------------------------------------------------------------------------------------


def _up(args: argparse.Namespace) -> int:
    import anyio

    logs.configure(default_level="WARNING" if args.json else "INFO")
    # It says when it starts and stops, which we say ourselves.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    settings = LocalSettings(
        data=_data_folder(args), host=args.host, port=args.port, allowed_hosts=tuple(args.allow_host)
    )
    anyio.run(_serve_until_signal, settings, bool(args.json))
    return 0


async def _serve_until_signal(settings: LocalSettings, as_json: bool) -> None:
    import anyio

    from molecule_runtime.localplatform.platform import ADMIN_TOKEN_FILE
    from molecule_runtime.localplatform.server import serve

    endpoint = settings.data / ENDPOINT_FILE
    async with serve(settings) as platform:
        # Signals count from here to the moment one arrives; a second one, during the stop, ends the process at once.
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            await anyio.to_thread.run_sync(write_private, endpoint, platform.url)
            token_file = settings.data / ADMIN_TOKEN_FILE
            if as_json:
                started = {
                    "url": platform.url,
                    "data": str(settings.data),
                    "admin_token_file": str(token_file),
                    "pid": os.getpid(),
                }
                _say(json.dumps(started))
            else:
                _say(_welcome(platform.url, settings, token_file))
            async for _ in signals:
                break
        endpoint.unlink(missing_ok=True)
        if not as_json:
            _say("stopping …")


def _welcome(url: str, settings: LocalSettings, token_file: Path) -> str:
    lines = [
        f"molecule-local answers at {url}",
        f"  data folder  {settings.data}",
        f"  admin token  in {token_file}",
        "",
        "Next, in another terminal:",
        "  molecule-local workspace create alice --external --poll    a workspace for an agent; prints its id and token",
        "  molecule-local status                                      who is there",
        "  molecule-local demo                                        watch agents work together",
        "",
        "Ctrl-C stops it.",
    ]
    if settings.host not in {DEFAULT_HOST, "localhost", "::1"}:
        lines.insert(1, "  careful: it listens beyond this machine, without encryption; tokens can be read on the way")
    return "\n".join(lines)


# --- commands over HTTP ---------------------------------------------------------------------------------------------------


def _status(args: argparse.Namespace) -> int:
    url = _url(args)
    _call("GET", url, "/health")
    rows = _rows(_call("GET", url, "/workspaces", token=_admin_token(args)))
    if args.json:
        _say(json.dumps({"url": url, "status": "ok", "workspaces": rows}))
        return 0
    online = sum(1 for row in rows if row.get("status") == "online")
    _say(f"molecule-local answers at {url}: {len(rows)} workspaces, {online} online")
    if rows:
        _say(_table(rows))
    return 0


def _workspace_create(args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"name": args.name}
    optional = {"role": args.role, "runtime": args.runtime}
    body.update({key: value for key, value in optional.items() if value})
    if args.parent:
        body["parent_id"] = validate_workspace_id(args.parent)
    if args.external:
        body["external"] = True
    if args.poll:
        body["delivery_mode"] = "poll"
    url = _url(args)
    made = cast("dict[str, Any]", _call("POST", url, "/workspaces", token=_admin_token(args), body=body))
    if args.json:
        _say(json.dumps(made))
        return 0
    connection = cast("dict[str, str] | None", made.get("connection"))
    _say(f"created {args.name} ({made['status']})")
    _say(f"  WORKSPACE_ID={made['id']}")
    _say(f"  PLATFORM_URL={url}")
    if connection:
        _say(f"  MOLECULE_WORKSPACE_TOKEN={connection['auth_token']}")
        _say("Save the token now, it is not shown again. With these variables set, connect with: molecule-mcp")
    else:
        _say(
            "With these variables set, start its host with: molecule-runtime (it gets its token when it first registers)"
        )
    return 0


def _workspace_list(args: argparse.Namespace) -> int:
    rows = _rows(_call("GET", _url(args), "/workspaces", token=_admin_token(args)))
    _say(json.dumps(rows) if args.json else _table(rows) if rows else "no workspaces")
    return 0


def _workspace_remove(args: argparse.Namespace) -> int:
    path = f"/workspaces/{validate_workspace_id(args.id)}" + ("?confirm=true" if args.recursive else "")
    done = _call("DELETE", _url(args), path, token=_admin_token(args), conflict="repeat with --recursive")
    _say(json.dumps(done) if args.json else f"removed {args.id}")
    return 0


def _token_create(args: argparse.Namespace) -> int:
    path = f"/workspaces/{validate_workspace_id(args.id)}/tokens"
    made = cast("dict[str, Any]", _call("POST", _url(args), path, token=_admin_token(args)))
    _say(json.dumps(made) if args.json else str(made["auth_token"]))
    return 0


def _token_list(args: argparse.Namespace) -> int:
    path = f"/workspaces/{validate_workspace_id(args.id)}/tokens"
    found = cast("dict[str, Any]", _call("GET", _url(args), path, token=_admin_token(args)))
    if args.json:
        _say(json.dumps(found))
        return 0
    for row in _rows(found.get("tokens")):
        _say(f"{row['id']}  {row['prefix']}…  created {row['created_at']}  last used {row['last_used_at'] or 'never'}")
    return 0


def _token_revoke(args: argparse.Namespace) -> int:
    # A token id is minted by us as a UUID, which the rule for workspace ids covers.
    path = f"/workspaces/{validate_workspace_id(args.id)}/tokens/{validate_workspace_id(args.token_id)}"
    done = _call("DELETE", _url(args), path, token=_admin_token(args))
    _say(json.dumps(done) if args.json else f"revoked {args.token_id}")
    return 0


def _call(
    method: str,
    url: str,
    path: str,
    *,
    token: str = "",
    body: dict[str, Any] | None = None,
    conflict: str = "",
) -> object:
    import httpx

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(trust_env=False, timeout=_HTTP_SECONDS, headers=headers) as client:
            response = client.request(method, url + path, json=body)
    except httpx.HTTPError as exc:
        reason = str(exc) or type(exc).__name__
        raise CommandError(f"no platform answers at {url} ({reason}); start one with: molecule-local up") from exc
    try:
        data: object = response.json()
    except ValueError:
        raise CommandError(f"what answers at {url} is no molecule platform; check --url") from None
    if response.is_success:
        return data
    details = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    said = details.get("error") or details.get("message") or response.reason_phrase
    remedy = ""
    if response.status_code == 401:
        remedy = "; the admin token belongs to another data folder: name the right one with --data"
    elif response.status_code == 409 and conflict:
        remedy = f"; {conflict}"
    raise CommandError(f"{method} {path}: {response.status_code} {said}{remedy}")


def _data_folder(args: argparse.Namespace) -> Path:
    folder: Path | None = args.data
    return default_data_folder() if folder is None else folder.expanduser().absolute()


def _url(args: argparse.Namespace) -> str:
    if args.url:
        return validate_platform_url(args.url)
    try:
        return validate_platform_url(read_secret(_data_folder(args) / ENDPOINT_FILE))
    except (OSError, ValueError):
        return f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"


def _admin_token(args: argparse.Namespace) -> str:
    path = _data_folder(args) / "admin_token"
    try:
        return read_secret(path)
    except (OSError, ValueError) as exc:
        reason = "does not exist" if isinstance(exc, FileNotFoundError) else f"cannot be used ({exc})"
        raise ConfigurationError(
            f"admin token file {str(path)!r} {reason}; start the platform with 'molecule-local up', or name its folder with --data"
        ) from exc


def _rows(data: object) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", data) if isinstance(data, list) else []


def _table(rows: list[dict[str, Any]]) -> str:
    head = ("ID", "NAME", "STATUS", "DELIVERY", "RUNTIME", "LAST HEARTBEAT")
    keys = ("id", "name", "status", "delivery_mode", "runtime", "last_heartbeat_at")
    lines = [head, *(tuple(str(row.get(key) or "-") for key in keys) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _say(text: str) -> None:
    # A sign that the terminal lacks must not end the platform.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, errors="replace").decode(encoding) + "\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"molecule-local: {' '.join(text.splitlines())}\n")
