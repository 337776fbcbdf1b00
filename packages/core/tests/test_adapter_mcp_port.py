"""The port for MCP servers: who answers for a runtime, and what may stand in a declaration."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter, UnsupportedRuntimeError
from molecule_runtime.core.adapter.mcp_port import KNOWN_RUNTIMES, client_for, normalize_runtime
from molecule_runtime.core.adapter.mcp_spec import (
    MANAGEMENT_PROVISION_TOOL_ID,
    checked_spec,
    management_environment,
    reference_environment,
)
from molecule_runtime.core.errors import ConfigurationError, MissingFeatureError, MoleculeError

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio

SPEC: dict[str, Any] = {"command": "npx", "args": ["-y", "x"]}


class MemoryClient:
    """A client of an engine that keeps its servers in memory."""

    def __init__(self) -> None:
        self.declared: dict[str, dict[str, Any]] = {}
        self.asked: dict[str, dict[str, Any]] = {}
        self.launch_env: dict[str, str] = {}
        self.broken = False

    def settings_path(self, config_path: str) -> Path:
        return Path(config_path, "engine.conf")

    def register(self, config_path: str, name: str, spec: Mapping[str, Any]) -> Path:
        self.declared[name] = dict(spec)
        return self.settings_path(config_path)

    def remove(self, config_path: str, name: str) -> bool:
        return self.declared.pop(name, None) is not None

    def servers(self, config_path: str) -> dict[str, dict[str, Any]]:
        if self.broken:
            raise OSError("the disk is gone")
        return self.declared

    async def list_tools(
        self, specs: Mapping[str, Mapping[str, Any]], *, launch_env: Mapping[str, str]
    ) -> list[str] | None:
        self.asked = {name: dict(spec) for name, spec in specs.items()}
        self.launch_env = dict(launch_env)
        return []


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> MemoryClient:
    """Announce a client for `my_engine`, and no other."""
    found = MemoryClient()
    module = ModuleType("clients_of_a_third_party")
    vars(module)["CLIENT"] = found
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entries = [
        metadata.EntryPoint("My-Engine", f"{module.__name__}:CLIENT", "molecule_runtime.mcp_clients"),
        metadata.EntryPoint("broken", "no_such_module_at_all:CLIENT", "molecule_runtime.mcp_clients"),
    ]

    def entry_points(**conditions: Any) -> metadata.EntryPoints:
        return metadata.EntryPoints(entries).select(**conditions)

    monkeypatch.setattr("molecule_runtime.core.features.metadata.entry_points", entry_points)
    return found


def adapter(runtime: str, **members: Any) -> BaseAdapter:
    async def nothing(self: object, config: AdapterConfig) -> None: ...

    names = {name: staticmethod(lambda: runtime) for name in ("name", "display_name", "description")}
    made: type[BaseAdapter] = type(
        "Made", (BaseAdapter,), {**names, "setup": nothing, "create_executor": nothing, **members}
    )
    return made()


def config(tmp_path: Path) -> AdapterConfig:
    return AdapterConfig(model="m", config_path=str(tmp_path))


@pytest.mark.parametrize("runtime", ["my-engine", "my_engine", "MY-Engine", " my-engine "])
def test_a_client_is_found_however_the_runtime_is_spelt(runtime: str, client: MemoryClient) -> None:
    assert normalize_runtime(runtime) == "my_engine"
    assert client_for(runtime) is client


async def test_an_adapter_that_overrides_only_its_names_delivers_to_its_own_engine(
    client: MemoryClient, tmp_path: Path
) -> None:
    made, settings = adapter("my-engine"), config(tmp_path)
    assert made.mcp_settings_path(settings) == str(tmp_path / "engine.conf")
    made.register_mcp_server_hook(settings, "it", SPEC)
    assert client.declared == {"it": SPEC}
    assert made.unregister_mcp_server_hook(settings, "it")
    assert not made.unregister_mcp_server_hook(settings, "it")


@pytest.mark.parametrize("runtime", ["langgraph", "crewai", "something-new", ""])
async def test_an_unknown_runtime_raises_and_names_what_to_override(
    runtime: str, client: MemoryClient, tmp_path: Path
) -> None:
    """Contract runtime.md 20.1 items 1 and 13: falling back to another engine's file is how #3159 comes back."""
    made, settings = adapter(runtime), config(tmp_path)
    for call in (
        lambda: made.register_mcp_server_hook(settings, "it", SPEC),
        lambda: made.unregister_mcp_server_hook(settings, "it"),
        lambda: made.mcp_settings_path(settings),
    ):
        with pytest.raises(UnsupportedRuntimeError, match="register_mcp_server_hook") as caught:
            call()
        assert isinstance(caught.value, (MoleculeError, NotImplementedError))
        assert caught.value.runtime == runtime
        assert repr(runtime) in str(caught.value)
    assert made.management_mcp_present(settings) is False
    assert await made.enumerate_loaded_mcp_tools(settings) is None


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("runtime", KNOWN_RUNTIMES)
async def test_a_known_runtime_without_its_wheel_says_what_to_install(runtime: str, tmp_path: Path) -> None:
    made, settings = adapter(runtime), config(tmp_path)
    with pytest.raises(MissingFeatureError, match="pip install molecule-runtime-mcp"):
        made.register_mcp_server_hook(settings, "it", SPEC)
    assert made.management_mcp_present(settings) is False
    assert await made.enumerate_loaded_mcp_tools(settings) is None


async def test_a_probe_never_raises_and_fails_closed(
    client: MemoryClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also not for a client that cannot be imported; and no line at INFO for each heartbeat (20.1 item 15)."""
    client.broken = True
    caplog.set_level("INFO")
    for runtime in ("my-engine", "broken"):
        made = adapter(runtime)
        assert made.management_mcp_present(config(tmp_path)) is False
        assert caplog.records == []
        assert await made.enumerate_loaded_mcp_tools(config(tmp_path)) is None
        caplog.clear()


@pytest.mark.parametrize(
    ("spec", "present"),
    [
        ({"command": "x"}, True),
        ({"url": "http://x"}, True),
        ({"command": ""}, False),
        ({"command": None}, False),
        ({}, False),
        ("text", False),
    ],
)
def test_the_management_server_is_present_when_there_is_something_to_start(
    client: MemoryClient, spec: Any, present: bool, tmp_path: Path
) -> None:
    client.declared["molecule-platform"] = spec
    assert adapter("my-engine").management_mcp_present(config(tmp_path)) is present
    client.declared["another"] = {"command": "x"}
    assert adapter("my-engine").management_mcp_present(config(tmp_path)) is present


async def test_servers_are_started_with_what_their_declaration_refers_to(
    client: MemoryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """References are resolved when a server starts; the organisation's credentials go to the management server only."""
    monkeypatch.setenv("MY_TOKEN", "secret-value-1")
    monkeypatch.setenv("MOLECULE_ADMIN_TOKEN", "secret-value-2")

    def launch_env(self: object, config: AdapterConfig) -> dict[str, str]:
        return {"PATH": "/opt"}

    made = adapter("my-engine", mcp_launch_env=launch_env)
    assert await made.enumerate_loaded_mcp_tools(config(tmp_path)) is None
    client.declared = {
        "own": {"command": "x", "env": {"A": "${MY_TOKEN}!", "B": "${ABSENT}"}, "env_vars": ["MY_TOKEN", "ABSENT"]},
        "molecule-platform": {"command": "y", "env": {"MOLECULE_API_KEY": "descriptor wins"}},
    }
    assert await made.enumerate_loaded_mcp_tools(config(tmp_path)) == []
    assert client.launch_env == {"PATH": "/opt"}
    assert client.asked["own"]["env"] == {"A": "secret-value-1!", "B": "", "MY_TOKEN": "secret-value-1"}
    assert client.asked["molecule-platform"]["env"] == {
        "MOLECULE_API_KEY": "descriptor wins",
        "MOLECULE_ADMIN_TOKEN": "secret-value-2",
    }


# What may stand in a declaration


def check(name: str = "it", environ: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return checked_spec(name, spec, config_path="/configs", environ=environ or {})


def test_a_spec_is_passed_on_without_what_is_for_the_installer() -> None:
    spec = check(
        command="npx", args=("-y", 1), env={"A": 1, "B": True, "C": None}, name="it", audience="", privileged=True
    )
    assert spec == {"command": "npx", "args": ["-y", "1"], "env": {"A": "1", "B": "true"}}


BAD_SPECS: list[tuple[dict[str, Any], str]] = [
    ({}, "command"),
    ({"command": " "}, "command"),
    ({"command": 1}, "command"),
    ({"command": "x", "args": "-y"}, "args"),
    ({"command": "x", "args": [{}]}, "args"),
    ({"command": "x", "env": ["A=1"]}, "env"),
    ({"command": "x", "env": {"A": {}}}, "env.A"),
    ({"command": "x", "env": {"A B": "1"}}, "A B"),
    ({"command": "x", "env": {"A\nB": "1"}}, "not the name"),
    ({"command": "x", "env": {"A": "\x00"}}, "env.A"),
    ({"command": "x", "env_vars": "A"}, "env_vars"),
]


@pytest.mark.parametrize(("spec", "named"), BAD_SPECS)
def test_a_spec_that_no_engine_can_use_is_refused_and_named(spec: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        check(**spec)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[0m"])
def test_a_name_that_no_file_can_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        check(name, command="x")


@pytest.mark.parametrize(
    "spec",
    [
        {"env": {"GITHUB_TOKEN": "ghp_0123456789abcdefghijABCDEFGHIJ"}},  # secret-scan: allow, made up
        {"env": {"ANYTHING": "sk-0123456789abcdefghijABCDEFGHIJ"}},  # secret-scan: allow, made up
        {"env": {"SERVICE_PASSWORD": "correct-horse"}},
        {"args": ["--key", "sk-0123456789abcdefghijABCDEFGHIJ"]},  # secret-scan: allow, made up
        {"headers": {"Authorization": "Bearer 0123456789abcdefghij"}},
    ],
)
def test_a_secret_is_refused_and_not_repeated(spec: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="env_vars") as caught:
        check(command="x", **spec)
    values = ("0123456789", "correct-horse")
    assert not any(value in str(caught.value) for value in values)


def test_the_id_of_a_workspace_is_no_secret() -> None:
    variables = {"WORKSPACE_ID": "3896a3e1-44d2-4a63-8a3a-c5103ab2aea6"}
    spec = checked_spec("molecule", {"command": "molecule-mcp", "env": variables}, config_path="/configs", environ={})
    assert spec["env"] == variables


def test_a_secret_that_is_a_variable_of_this_process_becomes_a_reference() -> None:
    """A template that copies MOLECULE_ADMIN_TOKEN into the spec (consumers.md 6.5) leaves no copy in the file."""
    environ = {"MOLECULE_ADMIN_TOKEN": "tok", "CP_URL": "https://cp"}
    spec = check(
        environ=environ, command="x", env={"MOLECULE_ADMIN_TOKEN": "tok", "CP_URL": "https://cp", "T": "${A_TOKEN}"}
    )
    assert spec == {
        "command": "x",
        "env": {"CP_URL": "https://cp", "T": "${A_TOKEN}"},
        "env_vars": ["MOLECULE_ADMIN_TOKEN"],
    }


ORG = {
    "MOLECULE_CP_URL": "https://cp",
    "ORG_API_KEY": "org-key-value",
    "MOLECULE_ADMIN_TOKEN": "admin-token-value",
    "MOLECULE_ORG_ID": "org-1",
    "WORKSPACE_ID": "ws-1",
    "PLATFORM_URL": "https://p",
    "UNRELATED_TOKEN": "t",
}


def test_the_management_server_gets_the_organisations_variables_and_no_copy_of_its_keys() -> None:
    spec = check("molecule-platform", ORG, command="x", env={"PLATFORM_URL": "descriptor wins"})
    assert spec["env"] == {
        "MOLECULE_API_URL": "https://cp",
        "MOLECULE_CP_URL": "https://cp",
        "ORG_SLUG": "org-1",
        "MOLECULE_ORG_ID": "org-1",
        "WORKSPACE_ID": "ws-1",
        "PLATFORM_URL": "descriptor wins",
    }
    assert spec["env_vars"] == ["MOLECULE_ADMIN_TOKEN", "ORG_API_KEY"]
    assert "value" not in str(spec)
    assert check("molecule-platform", ORG, **spec) == spec


def test_either_name_of_a_pair_stands_for_the_other_when_the_management_server_starts() -> None:
    started = management_environment(ORG)
    assert started["MOLECULE_ORG_API_KEY"] == started["ORG_API_KEY"] == "org-key-value"
    assert started["MOLECULE_API_KEY"] == started["MOLECULE_ADMIN_TOKEN"] == "admin-token-value"
    assert "UNRELATED_TOKEN" not in started
    both = management_environment({"MOLECULE_API_URL": "own", "MOLECULE_CP_URL": "other", "AUDIT_ACTOR": " "})
    assert both == {"MOLECULE_API_URL": "own", "MOLECULE_CP_URL": "other"}


@pytest.mark.parametrize("audience", ["org", "", None, False, "everyone"])
def test_no_other_server_gets_anything_of_the_organisation(audience: object) -> None:
    """Contract runtime.md 20.1 items 9 and 10: neither by asking for it nor by a falsy audience."""
    assert check("other", ORG, command="x", audience=audience) == {"command": "x"}


@pytest.mark.parametrize("audience", ["", None, False, 0, "everyone"])
def test_an_audience_that_is_present_and_falsy_gives_the_management_server_nothing(audience: object) -> None:
    assert check("molecule-platform", ORG, command="x", audience=audience) == {"command": "x"}


def test_a_server_for_itself_acts_through_the_file_of_the_token() -> None:
    spec = check(
        "own", ORG, command="x", audience="self", env={"MOLECULE_MCP_MODE": "management", "WORKSPACE_ID": "mine"}
    )
    assert spec["env"] == {
        "MOLECULE_WORKSPACE_TOKEN_FILE": "/configs/.auth_token",
        "MOLECULE_MCP_MODE": "self",
        "WORKSPACE_ID": "mine",
        "MOLECULE_WORKSPACE_ID": "ws-1",
        "MOLECULE_API_URL": "https://cp",
    }
    assert "env_vars" not in spec


def test_references_are_resolved_from_the_process() -> None:
    spec = {"env": {"A": "x${B}y", "C": 1}, "env_vars": ["B", 3]}
    assert reference_environment(spec, {"B": "b"}) == {"B": "b", "A": "xby", "C": "1"}
    assert reference_environment({}, {}) == {}


def test_the_one_stable_tool_id_is_that_of_the_contract() -> None:
    assert MANAGEMENT_PROVISION_TOOL_ID == "mcp__molecule-platform__provision_workspace"
