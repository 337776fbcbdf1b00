"""The settings of one host process: read from the environment once, in `main()`, and passed down."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.identity import WorkspaceId, validate_platform_url, validate_workspace_id
from molecule_runtime.core.secretfile import expand_home
from molecule_runtime.core.targets import WorkspaceTarget, org_id_of
from molecule_runtime.core.tokens import a2a_token, workspace_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.core.config import WorkspaceConfig
    from molecule_runtime.core.platform.wire import DeliveryMode
    from molecule_runtime.core.tokens import TokenSource

CONTAINER_PLATFORM_URL = "http://host.docker.internal:8080"
LAPTOP_PLATFORM_URL = "http://localhost:8080"

SNAPSHOT_FILE_NAME = ".agent_snapshot.json"

# Never contacted: connecting a UDP socket only makes the kernel choose the address that would be used (contract `runtime.md` 11).
_PROBE = ("8.8.8.8", 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What the environment says about this process.

    Attributes:
        target: the workspace, its token and its platform.
        config_path: the folder of config.yaml.
        configs_dir: the folder for the token and other state.
        adapter_module: a module to import; `""` means that `runtime` in config.yaml names an installed adapter.
        workspace_url: the URL to register; `""` means that it is worked out.
        bind_host: the address to listen on.
        delivery_mode: as the environment asks for it; None leaves it to config.yaml.
        hostname: of the container, or `""`.
        plugins_dir: the folder of the plugins that workspaces share.
        a2a_token: the secret of `a2a.inbound_auth: bearer`, or None.
        secret_files: files that the environment names and that hold a credential.
        snapshot_path: the file for what an agent takes over a restart.
        require_auth: take messages only from the platform where config.yaml asks for nothing.
    """

    target: WorkspaceTarget
    config_path: Path
    configs_dir: Path
    adapter_module: str = ""
    workspace_url: str = ""
    bind_host: str = "0.0.0.0"  # noqa: S104 - a container must be reachable; MOLECULE_BIND_HOST narrows it
    delivery_mode: DeliveryMode | None = None
    hostname: str = ""
    plugins_dir: Path = Path("/plugins")
    a2a_token: TokenSource | None = None
    secret_files: tuple[Path, ...] = ()
    snapshot_path: Path = Path(SNAPSHOT_FILE_NAME)
    require_auth: bool = False


def load_settings(
    environ: Mapping[str, str] | None = None, *, docker_marker: Path = Path("/.dockerenv")
) -> HostSettings:
    """Read the settings of the host.

    Raises:
        ConfigurationError: with every problem found, in one line.
    """
    problems: list[str] = []
    workspace_id = WorkspaceId("")
    raw_id = env.WORKSPACE_ID.get(environ)
    if not raw_id:
        problems.append("WORKSPACE_ID is not set; set it to the id of this workspace on the platform")
    else:
        try:
            workspace_id = validate_workspace_id(raw_id)
        except ConfigurationError as exc:
            problems.append(f"WORKSPACE_ID: {exc}")

    in_container = docker_marker.exists() or env.DOCKER_VERSION.is_set(environ)
    platform_url = env.PLATFORM_URL.get(environ) or (CONTAINER_PLATFORM_URL if in_container else LAPTOP_PLATFORM_URL)
    try:
        platform_url = validate_platform_url(platform_url)
    except ConfigurationError as exc:
        problems.append(f"PLATFORM_URL: {exc}")

    workspace_url = env.MOLECULE_WORKSPACE_URL.get(environ)
    if workspace_url:
        try:
            # Checked and used as it stands: the platform posts to exactly this URL (contract `platform-api.md` 5.3).
            validate_platform_url(workspace_url)
        except ConfigurationError as exc:
            problems.append(f"MOLECULE_WORKSPACE_URL: {str(exc).replace('platform_url', 'the URL', 1)}")

    delivery_mode = env.MOLECULE_DELIVERY_MODE.get(environ).lower()
    if delivery_mode not in {"", "push", "poll"}:
        problems.append(f"MOLECULE_DELIVERY_MODE {delivery_mode!r} is not known; use push or poll")

    state = Path()
    try:
        state = configs_dir.resolve(environ)
    except ConfigurationError as exc:
        problems.append(str(exc))
    if problems:
        raise ConfigurationError("; ".join(problems))
    return HostSettings(
        target=WorkspaceTarget(
            id=workspace_id,
            token=workspace_token(state, environ),
            platform_url=platform_url,
            org_id=org_id_of(environ),
        ),
        config_path=expand_home(env.WORKSPACE_CONFIG_PATH.get(environ)),
        configs_dir=state,
        adapter_module=env.ADAPTER_MODULE.get(environ),
        workspace_url=workspace_url,
        bind_host=env.MOLECULE_BIND_HOST.get(environ),
        delivery_mode=cast("Literal['push', 'poll'] | None", delivery_mode or None),
        hostname=env.HOSTNAME.get(environ),
        plugins_dir=expand_home(env.PLUGINS_DIR.get(environ)),
        a2a_token=a2a_token(environ),
        secret_files=tuple(
            expand_home(path)
            for variable in (env.MOLECULE_WORKSPACE_TOKEN_FILE, env.MOLECULE_A2A_TOKEN_FILE)
            if (path := variable.get(environ))
        ),
        snapshot_path=expand_home(env.AGENT_SNAPSHOT_PATH.get(environ) or str(state / SNAPSHOT_FILE_NAME)),
        require_auth=env.MOLECULE_A2A_REQUIRE_AUTH.flag(environ),
    )


def delivery_mode(settings: HostSettings, config: WorkspaceConfig) -> DeliveryMode:
    """Return how the platform delivers: the environment, else `a2a.delivery_mode`, else push (contract `runtime.md` 11)."""
    return settings.delivery_mode or config.a2a.delivery_mode or "push"


def resolve_workspace_url(settings: HostSettings, port: int) -> str:
    """Return the URL under which the platform reaches this workspace.

    `MOLECULE_WORKSPACE_URL` verbatim; else the address that the socket is bound to when that is a single one (a loopback
    socket is reachable only there); else `HOSTNAME`, which is the container's name on its network; else this machine's address.
    """
    if settings.workspace_url:
        return settings.workspace_url
    return f"http://{_reachable_host(settings)}:{port}"


def _reachable_host(settings: HostSettings) -> str:
    if settings.bind_host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(settings.bind_host)
    except ValueError:
        return settings.bind_host
    if address.is_unspecified:
        return settings.hostname or _local_address()
    return f"[{address}]" if address.version == 6 else str(address)


def _local_address() -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_PROBE)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"
