"""A member's seat: its workspace on the platform, its folder on this machine, and what its process is started with."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import yaml

from molecule_runtime.core import env
from molecule_runtime.core.config import DEFAULT_PROMPT_FILE
from molecule_runtime.core.config import FILE_NAME as CONFIG_FILE
from molecule_runtime.core.secretfile import write_private
from molecule_runtime.core.tokens import INBOUND_SECRET_FILE_NAME, TOKEN_FILE_NAME
from molecule_runtime.localplatform.errors import TeamError

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from molecule_runtime.localplatform.team.members import Member

LOG_FILE = "process.log"

OWN_FILES = frozenset({CONFIG_FILE, TOKEN_FILE_NAME, INBOUND_SECRET_FILE_NAME, LOG_FILE, f"{LOG_FILE}.1"})
"""What a member's folder holds besides its own files."""

LOOPBACK = "127.0.0.1"

OWN_VARIABLES = {
    env.WORKSPACE_ID.name: "it is the workspace that this member gets",
    env.PLATFORM_URL.name: "it is this platform",
    env.CONFIGS_DIR.name: "it is the member's folder",
    env.WORKSPACE_CONFIG_PATH.name: "it is the member's folder",
    env.MOLECULE_WORKSPACES.name: "a member is one workspace",
    env.MOLECULE_WORKSPACE_TOKEN.name: "the token is in a file in the member's folder",
    env.MOLECULE_WORKSPACE_TOKEN_FILE.name: "the token is in a file in the member's folder",
    env.MOLECULE_ORG_ID.name: "it is that of the platform",
    env.MOLECULE_BIND_HOST.name: "members listen on loopback",
    env.MOLECULE_AGENT_NAME.name: "write `name`",
    env.MOLECULE_AGENT_DESCRIPTION.name: "write `role`",
    env.ADAPTER_MODULE.name: "write `adapter`",
}
"""The variables that a member's process gets from us, with what to do instead of setting them."""

_PASSED_ON = (
    "PATH",
    "PYTHONPATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SYSTEMROOT",
    "VIRTUAL_ENV",
    "PYTHONWARNINGS",
    "COVERAGE_PROCESS_START",
)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_OTHER = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_MAX_SLUG = 48
_PORT_ATTEMPTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a platform is, as its members reach it."""

    url: str
    org_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A member's place: its workspace on the platform and its folder on this machine.

    Attributes:
        port: where it listens; 0 for a member from elsewhere.
    """

    member: Member
    workspace_id: str
    folder: Path
    port: int = 0

    @property
    def token_file(self) -> Path:
        """The file that holds its token, 0600."""
        return self.folder / TOKEN_FILE_NAME

    @property
    def log(self) -> Path:
        """What its process writes."""
        return self.folder / LOG_FILE


def folder_name(name: str) -> str:
    """Return the name of a member's folder: its own where a file system takes that, else one made from it."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    slug = _OTHER.sub("-", name).strip("-.")[:_MAX_SLUG]
    return f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def prepare_folder(seat: Seat) -> None:
    """Make a member's folder (0700) and put its configuration, prompt and files there.

    Raises:
        TeamError: something cannot be written or copied.
    """
    member = seat.member
    try:
        for folder in (seat.folder.parent, seat.folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        seat.folder.chmod(0o700)
        for source in member.files:
            _copy(source, seat.folder / source.name)
        if member.prompt:
            write_private(seat.folder / DEFAULT_PROMPT_FILE, member.prompt)
    except (OSError, shutil.Error) as exc:
        raise TeamError(f"the folder of {member.name!r}, {seat.folder}, cannot be prepared: {exc}") from exc
    if not member.external:
        write_config(seat)


def write_config(seat: Seat) -> bool:
    """Write a member's config.yaml, where it differs from the one that is there; returns whether it differed.

    Raises:
        TeamError: it cannot be written.
    """
    path = seat.folder / CONFIG_FILE
    text = "# Written by molecule-local from the team's seed at each start.\n" + yaml.safe_dump(
        _config(seat), sort_keys=False, allow_unicode=True
    )
    try:
        if path.is_file() and path.read_bytes() == text.encode():
            return False
        write_private(path, text)
    except OSError as exc:
        raise TeamError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    return True


def environment(seat: Seat, platform: Address) -> dict[str, str]:
    """Return the environment of a member's process: what it needs, what the seed gives it, and nothing else of ours."""
    current = env.current()
    member = seat.member
    variables = {name: current[name] for name in _PASSED_ON if name in current}
    variables["HOME"] = str(seat.folder)
    variables["PYTHONUNBUFFERED"] = "1"
    variables |= member.environ
    variables |= {
        env.WORKSPACE_ID.name: seat.workspace_id,
        env.PLATFORM_URL.name: platform.url,
        env.CONFIGS_DIR.name: str(seat.folder),
        env.WORKSPACE_CONFIG_PATH.name: str(seat.folder),
        # A token in the environment or in the arguments would be visible to other processes.
        env.MOLECULE_WORKSPACE_TOKEN_FILE.name: str(seat.token_file),
        env.MOLECULE_BIND_HOST.name: LOOPBACK,
        env.MOLECULE_AGENT_NAME.name: member.name,
        env.MOLECULE_AGENT_DESCRIPTION.name: member.role or "",
    }
    if platform.org_id:
        variables[env.MOLECULE_ORG_ID.name] = platform.org_id
    if member.adapter_module:
        variables[env.ADAPTER_MODULE.name] = member.adapter_module
    if member.adapter_folder is not None:
        others = [variables["PYTHONPATH"]] if variables.get("PYTHONPATH") else []
        variables["PYTHONPATH"] = os.pathsep.join([str(member.adapter_folder), *others])
    return variables


def command(member: Member) -> list[str]:
    """Return what runs a member: its own command, else a workspace host with the same Python as ours, so the same installed wheels."""
    # -P: it runs in its own folder, and what an agent writes there must not be imported in the place of a module.
    return list(member.command) or [sys.executable, "-P", "-m", "molecule_runtime.a2a"]


def choose_port(member: Member, last: int, taken: Container[int]) -> int:
    """Return the port for a member: the one that it asks for, the one that it had where that is free, else another."""
    if member.port:
        return member.port
    if last and last not in taken and is_free(last):
        return last
    for _ in range(_PORT_ATTEMPTS):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
    raise TeamError("this machine has no free port left")


def is_free(port: int) -> bool:
    """Tell whether nothing listens on a port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the host itself does: without it a port stays taken for a minute after its process ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _config(seat: Seat) -> dict[str, Any]:
    member = seat.member
    config: dict[str, Any] = {"name": member.name, "runtime": member.runtime}
    if member.role:
        config |= {"description": member.role, "role": member.role}
    config |= member.config
    server = config.get("a2a")
    config["a2a"] = {**(cast("dict[str, Any]", server) if isinstance(server, dict) else {}), "port": seat.port}
    return config


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
