"""`molecule-mcp`: the MCP server an operator puts into the configuration of their agent."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from typing import TYPE_CHECKING

from molecule_runtime.core import env, logs
from molecule_runtime.core.errors import ConfigurationError, TargetError
from molecule_runtime.core.targets import missing_variables, print_missing_env_help, read_token_file
from molecule_runtime.core.version import version_of
from molecule_runtime.mcp import commands

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.mcp.launch import Begun
    from molecule_runtime.mcp.settings import McpSettings

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIGURATION = 2

_VARIABLES = (
    env.WORKSPACE_ID,
    env.PLATFORM_URL,
    env.MOLECULE_WORKSPACE_TOKEN,
    env.MOLECULE_WORKSPACE_TOKEN_FILE,
    env.MOLECULE_WORKSPACES,
    env.MOLECULE_WORKSPACES_FILE,
    env.MOLECULE_ORG_ID,
    env.CONFIGS_DIR,
    env.MOLECULE_AGENT_NAME,
    env.MOLECULE_AGENT_DESCRIPTION,
    env.MOLECULE_AGENT_SKILLS,
    env.MOLECULE_MCP_PUSH,
    env.MOLECULE_CHAT_UPLOAD_DIR,
    env.MOLECULE_MCP_POLL_TIMEOUT_SECS,
    env.MOLECULE_MCP_MAX_WAIT_SECS,
    env.MOLECULE_MCP_DISABLE_HEARTBEAT,
    env.MOLECULE_MCP_DISABLE_INBOX,
    env.MOLECULE_MCP_HTTP_TOKEN,
    env.MOLECULE_MCP_HTTP_TOKEN_FILE,
    env.MOLECULE_MCP_VERBOSE,
    env.DELEGATION_TIMEOUT,
    env.LOG_LEVEL,
    env.LOG_FORMAT,
)

_EPILOG = """\
In the configuration of your MCP client (Claude Code, codex, Cursor, ...):

  claude mcp add molecule -e WORKSPACE_ID=... -e PLATFORM_URL=... -e MOLECULE_WORKSPACE_TOKEN=... -- molecule-mcp

Exit codes: 0 the client closed the session or a signal came, 1 the server failed, 2 the configuration is missing or wrong.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    width = max(len(variable.name) for variable in _VARIABLES)
    lines = [f"  {variable.name:<{width}}  {variable.meaning}" for variable in _VARIABLES]
    parser = argparse.ArgumentParser(
        prog="molecule-mcp",
        description="Serve the Molecule tools over MCP and keep your workspaces registered, alive and polled.",
        epilog="Environment:\n" + "\n".join(lines) + "\n\n" + _EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands.add_parsers(parser)
    parser.add_argument(
        "--transport",
        choices=["stdio", "http"],
        default="stdio",
        help="http: streamable HTTP on this machine; default stdio",
    )
    http = parser.add_argument_group("with --transport http")
    http.add_argument("--host", metavar="ADDRESS", help="address to listen on; default 127.0.0.1")
    http.add_argument("--port", type=int, metavar="N", help="port to listen on, 0 for a free one; default 9100")
    http.add_argument(
        "--allow-host",
        action="append",
        metavar="NAME",
        help="a further name of this server; needed where --host is not loopback",
    )
    http.add_argument(
        "--announce-json", action="store_true", default=None, help="print the address on stdout as a line of JSON"
    )
    parser.add_argument("--version", action="version", version=f"molecule-mcp {version_of('molecule-runtime-mcp')}")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.transport == "stdio":
        for name in ("host", "port", "allow_host", "announce_json"):
            if getattr(options, name) is not None:
                parser.error(f"--{name.replace('_', '-')} needs --transport http")
    environ = env.current()
    if options.command is not None:
        return commands.run(options, environ)
    return _serve(options, environ)


def serve(begun: Begun) -> int:
    """Serve over stdio a session that `launch` began; returns the exit code."""
    return _serve(build_parser().parse_args([]), env.current(), begun)


def _serve(options: argparse.Namespace, environ: Mapping[str, str], begun: Begun | None = None) -> int:
    verbose = env.MOLECULE_MCP_VERBOSE.is_set(environ)
    try:
        logs.configure(environ, default_level="INFO" if verbose else "WARNING", prefix="[molecule-mcp] ")
    except ConfigurationError as exc:
        return _refuse(str(exc))
    if missing := missing_variables(environ):
        print_missing_env_help(missing, have_token_file=bool(read_token_file(environ)))
        return EXIT_CONFIGURATION
    # Late: --help and a wrong configuration answer at once, without loading the SDK.
    import anyio

    from molecule_runtime.mcp.errors import McpError
    from molecule_runtime.mcp.settings import load_settings

    try:
        settings = load_settings(environ)
    except TargetError as exc:
        source = "MOLECULE_WORKSPACES" if env.MOLECULE_WORKSPACES.is_set(environ) else "configuration"
        return _refuse("\n".join([f"invalid {source}:", *(f"  - {error}" for error in exc.errors)]))
    except ConfigurationError as exc:
        return _refuse(str(exc))

    if wrong := [problem for variable in _VARIABLES if (problem := variable.problem(environ)) is not None]:
        lenient = env.MOLECULE_MCP_POLL_TIMEOUT_SECS.problem(environ)
        if strict := [problem for problem in wrong if problem != lenient]:
            return _refuse("\n".join(["invalid environment:", *(f"  - {problem}" for problem in strict)]))
        # A hint to the model only: the predecessor ignored a bad one (contract `runtime.md` 5.3).
        logger.warning("%s; its default is used", lenient)

    from molecule_runtime.tools.telemetry_sdk import configure

    settings = dataclasses.replace(settings, telemetry=configure(environ, service="molecule-mcp"))
    try:
        if options.transport == "http":
            from molecule_runtime.mcp.loading import load_http

            load_http()
            anyio.run(_serve_http, settings, options, environ)
        else:
            from molecule_runtime.mcp.stdio import serve_stdio

            anyio.run(serve_stdio, settings, environ, begun)
    except ConfigurationError as exc:
        return _refuse(str(exc))
    except McpError as exc:
        _refuse(str(exc))
        return EXIT_FAILED
    except KeyboardInterrupt:  # before the session was up
        return EXIT_OK
    return EXIT_OK


async def _serve_http(settings: McpSettings, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    from molecule_runtime.mcp.http_server import DEFAULT_HOST, DEFAULT_PORT, HttpOptions, serve_http

    where = HttpOptions(
        host=options.host or DEFAULT_HOST,
        port=DEFAULT_PORT if options.port is None else options.port,
        allowed_hosts=tuple(options.allow_host or ()),
        announce_json=bool(options.announce_json),
    )
    await serve_http(settings, where, environ)


def _refuse(reason: str) -> int:
    print(f"molecule-mcp: {reason}", file=sys.stderr)  # noqa: T201 - the command's own error line
    return EXIT_CONFIGURATION
