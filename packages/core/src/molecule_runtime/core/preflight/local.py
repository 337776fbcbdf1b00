"""Checks that ask this machine only: folders, identity, token, port, variables, prompts, skills, plugins, features."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from typing import TYPE_CHECKING

from molecule_runtime.core import env, features
from molecule_runtime.core.config import DEFAULT_PROMPT_FILE
from molecule_runtime.core.env import Variable
from molecule_runtime.core.errors import ConfigurationError, InvalidWorkspaceIdError
from molecule_runtime.core.identity import validate_platform_url, validate_workspace_id
from molecule_runtime.core.preflight.model import Check, Context, Outcome, Status, fail, ok, skip, warn
from molecule_runtime.core.secretfile import expand_home, read_secret, secret_problem
from molecule_runtime.core.tokens import INBOUND_SECRET_FILE_NAME, TOKEN_FILE_NAME, a2a_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SKILL_FILE = "SKILL.md"
MAX_SKILL_BYTES = 1024 * 1024

NO_CONFIG = "config.yaml cannot be used"


def check_config(context: Context) -> Iterator[Outcome]:
    """Everything that is wrong with config.yaml."""
    for finding in context.loaded.findings:
        status = Status.FAIL if finding.severity == "error" else Status.WARN
        yield Outcome(status, str(finding).removesuffix(f"; {finding.remedy}"), finding.remedy)
    if not context.loaded.findings:
        yield ok(f"{context.loaded.path} is valid")


def check_config_folder(context: Context) -> Iterator[Outcome]:
    """The folder of config.yaml: adapters write their memory, skills and plugins there."""
    folder = context.folder
    if not folder.is_dir():
        yield fail(f"{folder} is not a folder", f"create it, or set {env.WORKSPACE_CONFIG_PATH.name}")
        return
    problem = _write_problem(folder)
    if problem:
        yield warn(f"{folder} cannot be written ({problem})", "give it to the user that runs the workspace")
    yield from _loose(folder)
    yield from _loose(context.loaded.path)
    if not problem:
        yield ok(f"{folder} can be written")


def check_state_folder(context: Context) -> Iterator[Outcome]:
    """The folder for the token and other state."""
    try:
        folder = context.state()
    except ConfigurationError as exc:
        yield fail(str(exc), f"set {env.CONFIGS_DIR.name} to a folder that this user can write")
        return
    if folder.resolve() != context.folder.resolve():
        yield from _loose(folder)
    for name in (TOKEN_FILE_NAME, INBOUND_SECRET_FILE_NAME):
        path = folder / name
        mode = _mode(path)
        if mode is not None and mode & 0o077:
            yield warn(f"{path} can be read by other users (mode {mode:04o})", f"chmod 600 {path}")
    yield ok(f"{folder} can be written")


def check_identity(context: Context) -> Iterator[Outcome]:
    """Which workspace of which platform this is."""
    given = env.WORKSPACE_ID.get(context.environ)
    if not given and context.offline:
        yield skip("WORKSPACE_ID is not set, which only the running workspace needs")
    elif not given:
        yield fail("WORKSPACE_ID is not set", "set it to the id of this workspace on the platform")
    else:
        try:
            yield ok(f"workspace {validate_workspace_id(given)}")
        except InvalidWorkspaceIdError as exc:
            yield fail(f"WORKSPACE_ID: {exc}", "copy the id from the platform")
    try:
        yield ok(f"platform {validate_platform_url(env.PLATFORM_URL.get(context.environ) or context.platform_url)}")
    except ConfigurationError as exc:
        yield fail(f"PLATFORM_URL: {exc}", "set it to the address of the platform's API")


def check_token(context: Context) -> Iterator[Outcome]:
    """Whether there is a token, and that a file that was named on purpose works."""
    named = env.MOLECULE_WORKSPACE_TOKEN_FILE.get(context.environ)
    if named:
        try:
            read_secret(expand_home(named))
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            yield fail(f"MOLECULE_WORKSPACE_TOKEN_FILE {named!r}: {reason}", "write the token into it, alone")
            return
    try:
        source = context.token()
    except ConfigurationError:
        yield skip("there is no folder for the token")
        return
    if source.read():
        yield ok(f"token from {source.description}")
    else:
        yield warn(
            f"no token ({source.description})",
            "none is needed before the first registration, which brings one; else set MOLECULE_WORKSPACE_TOKEN_FILE",
        )


def check_port(context: Context) -> Iterator[Outcome]:
    """Whether the A2A server can listen."""
    if context.config is None:
        yield skip(NO_CONFIG)
        return
    host, port = env.MOLECULE_BIND_HOST.get(context.environ), context.config.a2a.port
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            yield fail(
                f"port {port} is taken on {host}",
                "stop what listens there (perhaps this workspace, already running), or set another a2a.port",
            )
        else:
            reason = exc.strerror or type(exc).__name__
            yield fail(f"cannot listen on {host}, port {port}: {reason}", "check MOLECULE_BIND_HOST and a2a.port")
    else:
        yield ok(f"port {port} is free on {host}")


def check_inbound_auth(context: Context) -> Iterator[Outcome]:
    """Whether the secret that senders of messages must show is there."""
    if context.config is None:
        yield skip(NO_CONFIG)
        return
    mode = context.config.a2a.inbound_auth
    if mode != "bearer":
        yield ok(f"a2a.inbound_auth is {mode!r}")
        return
    remedy = f"set {env.MOLECULE_A2A_TOKEN_FILE.name} to a file that holds it, alone, or {env.MOLECULE_A2A_TOKEN.name}"
    source = a2a_token(context.environ)
    if source is None:
        yield fail("a2a.inbound_auth is 'bearer' and there is no secret for it", remedy)
    elif problem := secret_problem(source.read()):
        yield fail(f"a2a.inbound_auth is 'bearer' and the secret from {source.description} {problem}", remedy)
    else:
        yield ok(f"secret of a2a.inbound_auth from {source.description}")


def check_required_env(context: Context) -> Iterator[Outcome]:
    """One failure for each required variable that is unset or blank."""
    config = context.config
    if config is None:
        yield skip(NO_CONFIG)
        return
    wanted = _required(context)
    for name, key in wanted.items():
        if not Variable(name, "").is_set(context.environ):
            yield fail(f"{name} is not set ({key} in config.yaml)", f"set {name} in the workspace's secrets")
    if not wanted:
        yield ok("config.yaml requires no variable")
    elif all(Variable(name, "").is_set(context.environ) for name in wanted):
        yield ok(f"set: {', '.join(wanted)}")
    for entry in config.models:
        if entry.id == config.model:
            for name in entry.required_env:
                if name not in wanted and not Variable(name, "").is_set(context.environ):
                    yield warn(
                        f"{name} is not set, which model {entry.id!r} needs", f"set {name}, or choose another model"
                    )


def check_token_file(context: Context) -> Iterator[Outcome]:
    """The older form: a file with the key of a model's provider."""
    config = context.config
    name = config.runtime_config.get("auth_token_file") if config is not None else None
    if config is None or not name:
        yield skip(NO_CONFIG if config is None else "runtime_config.auth_token_file is not used")
        return
    path = context.folder / str(name)
    if path.is_file():
        yield ok(f"{path} is there")
        return
    variable = str(config.runtime_config.get("auth_token_env") or "")
    wanted = _required(context)
    if (variable and Variable(variable, "").is_set(context.environ)) or (
        wanted and all(Variable(each, "").is_set(context.environ) for each in wanted)
    ):
        yield ok("the file is missing, and the environment has what is needed")
    else:
        yield fail(f"{path} does not exist (runtime_config.auth_token_file)", "create it, or use required_env instead")


def check_prompts(context: Context) -> Iterator[Outcome]:
    """Each prompt file."""
    if context.config is None:
        yield skip(NO_CONFIG)
        return
    names = context.config.prompt_files or (DEFAULT_PROMPT_FILE,)
    problems = [
        warn(f"prompt file {name!r} {problem}", f"create {context.folder / name}, or remove it from prompt_files")
        for name in names
        if (problem := _unreadable(context.folder / name))
    ]
    yield from problems or [ok(f"{len(names)} prompt file(s) can be read")]


def check_skills(context: Context) -> Iterator[Outcome]:
    """Each skill that config.yaml names."""
    config = context.config
    if config is None or not config.skills:
        yield skip(NO_CONFIG if config is None else "config.yaml names no skill")
        return
    problems = [
        warn(f"skill {name!r}: {path} {problem}", f"add {path}, or remove the skill from config.yaml")
        for name in config.skills
        if (problem := _unreadable(path := context.folder / "skills" / name / SKILL_FILE))
    ]
    yield from problems or [ok(f"{len(config.skills)} skill(s) can be read")]


def check_plugins(context: Context) -> Iterator[Outcome]:
    """Each plugin that config.yaml names, and each that lies in the folders of plugins."""
    config = context.config
    if config is None:
        yield skip(NO_CONFIG)
        return
    shared = expand_home(env.PLUGINS_DIR.get(context.environ))
    places = [context.folder / "plugins", shared]
    problems: list[Outcome] = []
    present: set[str] = set()
    for place in places:
        try:
            folders = sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        except FileNotFoundError:
            continue
        except OSError as exc:
            problems.append(warn(f"{place} cannot be read ({exc.strerror})", "make it readable by this user"))
            continue
        for folder in folders:
            present.add(folder.name)
            manifest = folder / "plugin.yaml"
            if not os.access(folder, os.R_OK | os.X_OK):
                problems.append(warn(f"plugin {folder} cannot be read", "make it readable by this user"))
            elif manifest.exists() and (problem := _unreadable(manifest)):
                problems.append(warn(f"{manifest} {problem}", "mend it, or remove the plugin"))
    for plugin in config.plugins:
        # One with a source is fetched when the workspace starts.
        if plugin.name and not plugin.source and plugin.name not in present:
            where = " nor ".join(str(place) for place in places)
            problems.append(
                warn(f"plugin {plugin.name!r} is neither in {where}", "install it, or remove it from plugins")
            )
    if problems:
        yield from problems
    elif not present and not config.plugins:
        yield skip("there is no plugin")
    else:
        yield ok(f"{len(present)} plugin(s) can be read")


def check_features(context: Context) -> Iterator[Outcome]:
    """Each feature that config.yaml asks for must be installed."""
    config = context.config
    if config is None:
        yield skip(NO_CONFIG)
        return
    wanted = {
        "skills": [key for key in ("skills", "plugins") if getattr(config, key)],
        "tools": [key for key in ("tools",) if getattr(config, key)],
    }
    installed = features.names(features.FEATURES)
    for feature, keys in wanted.items():
        if keys and feature not in installed:
            yield fail(
                f"config.yaml has {' and '.join(keys)}, and the feature {feature!r} is not installed",
                f"pip install {features.DISTRIBUTIONS[feature]}",
            )
        elif keys:
            yield ok(f"feature {feature!r} is installed")


def _required(context: Context) -> dict[str, str]:
    """Return the required variables and the key that requires each."""
    config = context.config
    if config is None:
        return {}
    required: list[str] = config.runtime_config.get("required_env") or []
    return dict.fromkeys(required, "runtime_config.required_env") | dict.fromkeys(config.env.required, "env.required")


def _unreadable(path: Path) -> str:
    """Say why a text file cannot be used, or `""`."""
    try:
        if not path.exists():
            return "does not exist"
        if not path.is_file():
            return "is not a file"
        with path.open("rb") as handle:
            data = handle.read(MAX_SKILL_BYTES + 1)
    except OSError as exc:
        return f"cannot be read ({exc.strerror or type(exc).__name__})"
    except ValueError:
        return "is not the name of a file"
    if len(data) > MAX_SKILL_BYTES:
        return f"is larger than {MAX_SKILL_BYTES // 1024} KiB"
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        return f"is not UTF-8 text (byte {exc.start})"
    return ""


def _write_problem(folder: Path) -> str:
    try:
        # A real write: os.access says yes on a read-only mount for root.
        with tempfile.TemporaryFile(dir=folder, prefix=".molecule-write-test-"):
            return ""
    except OSError as exc:
        return exc.strerror or type(exc).__name__


def _mode(path: Path) -> int | None:
    if os.name != "posix":
        return None
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _loose(path: Path) -> Iterator[Outcome]:
    mode = _mode(path)
    if mode is not None and mode & 0o002 and not mode & stat.S_ISVTX:
        yield warn(f"{path} can be changed by every user (mode {mode:04o})", f"chmod o-w {path}")


def check_env_values(context: Context) -> Iterator[Outcome]:
    """Every variable of ours that is set holds a value of its kind."""
    found = env.problems(context.environ)
    for problem in found:
        name, _, wanted = problem.partition(" is ")
        yield warn(problem, f"correct or unset {name}" if wanted else "")
    if not found:
        yield ok("every variable that is set holds a value of its kind")


LOCAL_CHECKS: tuple[Check[Context], ...] = (
    Check(id="config", title="config.yaml", severity=Status.FAIL, run=check_config),
    Check(id="config.folder", title="Folder of config.yaml", severity=Status.FAIL, run=check_config_folder),
    Check(id="state.folder", title="Folder for token and state", severity=Status.FAIL, run=check_state_folder),
    Check(id="workspace.identity", title="Workspace and platform", severity=Status.FAIL, run=check_identity),
    Check(id="workspace.token", title="Token", severity=Status.FAIL, run=check_token),
    Check(id="a2a.port", title="A2A port", severity=Status.FAIL, run=check_port),
    Check(id="a2a.inbound_auth", title="A2A authentication", severity=Status.FAIL, run=check_inbound_auth),
    Check(id="env.values", title="Values of variables", severity=Status.WARN, run=check_env_values, at_boot=True),
    Check(id="env.required", title="Required variables", severity=Status.FAIL, run=check_required_env, at_boot=True),
    Check(id="auth.token_file", title="Auth token file", severity=Status.FAIL, run=check_token_file, at_boot=True),
    Check(id="prompts", title="Prompt files", severity=Status.WARN, run=check_prompts, at_boot=True),
    Check(id="skills", title="Skills", severity=Status.WARN, run=check_skills, at_boot=True),
    Check(id="plugins", title="Plugins", severity=Status.WARN, run=check_plugins, at_boot=True),
    Check(id="features", title="Features", severity=Status.FAIL, run=check_features, at_boot=True),
)
