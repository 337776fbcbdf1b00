"""Installed wheels, versions, errors, and what an import costs."""

import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest

from molecule_runtime.core import env, errors, features
from molecule_runtime.core.errors import (
    ConfigurationError,
    InvalidWorkspaceIdError,
    MissingFeatureError,
    MoleculeError,
    PlatformError,
    PlatformTimeoutError,
    PlatformUnreachableError,
    RateLimitedError,
    TargetError,
    UnavailableError,
)
from molecule_runtime.core.version import version_of


def entry(group: str, name: str, value: str) -> metadata.EntryPoint:
    return metadata.EntryPoint(name=name, value=value, group=group)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[metadata.EntryPoint]:
    """Entry points that a test pretends are installed, and no others."""
    found: list[metadata.EntryPoint] = []

    def entry_points(**conditions: Any) -> metadata.EntryPoints:
        return metadata.EntryPoints(found).select(**conditions)

    monkeypatch.setattr("molecule_runtime.core.features.metadata.entry_points", entry_points)
    return found


@pytest.mark.parametrize(("feature", "wheel"), sorted(features.DISTRIBUTIONS.items()))
@pytest.mark.usefixtures("installed")
def test_a_missing_wheel_is_named_with_the_line_that_installs_it(feature: str, wheel: str) -> None:
    with pytest.raises(MissingFeatureError) as caught:
        features.load(features.FEATURES, feature)
    assert f"pip install {wheel}" in str(caught.value)
    assert caught.value.distribution == wheel
    assert isinstance(caught.value, (ConfigurationError, ImportError))


def test_an_unknown_adapter_is_an_error_that_lists_the_installed_ones(installed: list[metadata.EntryPoint]) -> None:
    installed += [entry(features.ADAPTERS, name, "json:loads") for name in ("hermes", "codex", "codex")]
    with pytest.raises(ConfigurationError, match=r"'langgraph'.*\(codex, hermes\)"):
        features.load(features.ADAPTERS, "langgraph")
    assert features.names(features.ADAPTERS) == ["codex", "hermes"]


@pytest.mark.usefixtures("installed")
def test_without_any_adapter_the_error_says_none() -> None:
    with pytest.raises(ConfigurationError, match="none"):
        features.load(features.ADAPTERS, "langgraph")


def test_what_is_announced_is_loaded(installed: list[metadata.EntryPoint]) -> None:
    installed.append(entry(features.ADAPTERS, "codex", "json:loads"))
    loaded: Any = features.load(features.ADAPTERS, "codex")
    assert loaded('{"a": 1}') == {"a": 1}


def test_two_wheels_that_announce_different_things_under_one_name_are_an_error(
    installed: list[metadata.EntryPoint],
) -> None:
    installed += [entry(features.ADAPTERS, "codex", value) for value in ("json:loads", "json:dumps")]
    with pytest.raises(ConfigurationError, match="uninstall"):
        features.load(features.ADAPTERS, "codex")


def test_the_version_of_a_wheel_is_known_and_that_of_a_stranger_is_not() -> None:
    assert version_of("molecule-runtime-core") == metadata.version("molecule-runtime-core")
    assert version_of("no-such-distribution-anywhere") == "unknown"


# Errors


def test_every_error_is_a_molecule_error_and_a_builtin_where_one_is_expected() -> None:
    ours = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert all(issubclass(value, MoleculeError) for value in ours)
    assert issubclass(InvalidWorkspaceIdError, ValueError)
    assert issubclass(PlatformTimeoutError, TimeoutError)
    assert issubclass(PlatformUnreachableError, ConnectionError)


def test_an_error_of_the_platform_carries_data_and_a_text_for_people() -> None:
    where: dict[str, Any] = {"workspace_id": "ws-1", "request": "POST /registry/heartbeat"}
    for kind in (PlatformError, PlatformUnreachableError, PlatformTimeoutError, RateLimitedError, UnavailableError):
        error = kind("it failed", **where, status=503)
        assert str(error) == "it failed"
        assert (error.workspace_id, error.request, error.status) == ("ws-1", "POST /registry/heartbeat", 503)
    assert RateLimitedError("x", **where, retry_after=2.5).retry_after == 2.5
    assert UnavailableError("x", **where).delivered is None


def test_an_error_of_the_settings_holds_all_of_them() -> None:
    error = TargetError(["first", "second"])
    assert error.errors == ["first", "second"]
    assert str(error) == "first; second"


# Environment variables


def test_every_variable_is_listed_once_under_its_own_name() -> None:
    names = [variable.name for variable in env.ALL]
    assert len(names) == len(set(names))
    assert all(getattr(env, name) is variable for name, variable in zip(names, env.ALL, strict=True))
    assert all(variable.meaning.endswith((".", ")")) for variable in env.ALL)


def test_a_blank_variable_counts_as_absent() -> None:
    assert env.LOG_FORMAT.get({"LOG_FORMAT": " \n"}) == "text"
    assert env.LOG_FORMAT.get({"LOG_FORMAT": " json "}) == "json"
    assert not env.LOG_FORMAT.is_set({"LOG_FORMAT": " "})
    assert not env.LOG_FORMAT.is_set({})
    assert env.LOG_FORMAT.is_set({"LOG_FORMAT": "x"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", False), ("0", False), ("False", False), (" NO ", False), ("off", False), ("1", True), ("x", True)],
)
def test_a_switch_is_off_when_it_says_so(value: str, expected: bool) -> None:
    assert env.MOLECULE_MCP_VERBOSE.flag({"MOLECULE_MCP_VERBOSE": value}) is expected


# Imports

HEAVY = ("httpx", "pydantic", "yaml", "anyio", "asyncio", "urllib.request", "ssl", "importlib.metadata")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "statement",
    [
        "import molecule_runtime.core",
        "from molecule_runtime.core import BaseAdapter, AdapterConfig, RuntimeCapabilities, PrivilegedPluginInstallError",
        "import molecule_runtime.mcp_target_resolution",
        "from molecule_runtime.core import errors, identity, redaction, logs, envelope, untrusted",
    ],
)
def test_the_light_parts_load_no_client_validator_or_parser(statement: str) -> None:
    assert run(f"import sys\n{statement}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])") == ""


def test_core_alone_does_not_load_the_adapter_interface() -> None:
    assert run("import sys, molecule_runtime.core; print('molecule_runtime.core.adapter' in sys.modules)") == "False"


def test_every_public_name_of_core_is_there_and_no_other() -> None:
    script = (
        "import molecule_runtime.core as core\n"
        "print(all(getattr(core, name) is not None for name in core.__all__), hasattr(core, 'Nothing'))\n"
        "from molecule_runtime.core import *\n"
        "print(BaseAdapter is core.BaseAdapter is core.adapter.BaseAdapter)"
    )
    assert run(script).split() == ["True", "False", "True"]


def test_without_a_configured_log_the_library_is_silent() -> None:
    script = "import molecule_runtime.core, logging, sys; sys.stderr = sys.stdout; logging.getLogger('molecule_runtime.x').error('loud')"
    assert run(script) == ""
