"""Settings: the defaults, and the URL under which a workspace says it is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from molecule_runtime.a2a.card import skills_of
from molecule_runtime.a2a.settings import (
    CONTAINER_PLATFORM_URL,
    LAPTOP_PLATFORM_URL,
    load_settings,
    resolve_workspace_url,
)
from molecule_runtime.core.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def environ(tmp_path: Path, **changes: str) -> dict[str, str]:
    return {"WORKSPACE_ID": "ws-1", "CONFIGS_DIR": str(tmp_path / "state"), **changes}


def test_the_platform_is_on_the_host_of_a_container_and_on_this_machine_elsewhere(tmp_path: Path) -> None:
    marker = tmp_path / "dockerenv"
    assert load_settings(environ(tmp_path), docker_marker=marker).target.platform_url == LAPTOP_PLATFORM_URL
    inside = load_settings(environ(tmp_path, DOCKER_VERSION="27"), docker_marker=marker)
    assert inside.target.platform_url == CONTAINER_PLATFORM_URL
    marker.touch()
    assert load_settings(environ(tmp_path), docker_marker=marker).target.platform_url == CONTAINER_PLATFORM_URL
    named = load_settings(environ(tmp_path, PLATFORM_URL="https://acme.example/"), docker_marker=marker)
    assert named.target.platform_url == "https://acme.example"


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings({"CONFIGS_DIR": str(tmp_path), "PLATFORM_URL": "x", "MOLECULE_DELIVERY_MODE": "y"})
    for name in ("WORKSPACE_ID", "PLATFORM_URL", "MOLECULE_DELIVERY_MODE"):
        assert name in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        (
            {"MOLECULE_WORKSPACE_URL": "https://acme.example/agents/1", "HOSTNAME": "box"},
            "https://acme.example/agents/1",
        ),
        ({"HOSTNAME": "ws-box"}, "http://ws-box:8000"),
        ({"HOSTNAME": "ws-box", "MOLECULE_BIND_HOST": "127.0.0.1"}, "http://127.0.0.1:8000"),
        ({"HOSTNAME": "ws-box", "MOLECULE_BIND_HOST": "localhost"}, "http://127.0.0.1:8000"),
        ({"HOSTNAME": "ws-box", "MOLECULE_BIND_HOST": "::1"}, "http://[::1]:8000"),
        ({"HOSTNAME": "ws-box", "MOLECULE_BIND_HOST": "::"}, "http://ws-box:8000"),
        ({"HOSTNAME": "ws-box", "MOLECULE_BIND_HOST": "10.1.2.3"}, "http://10.1.2.3:8000"),
    ],
)
def test_the_registered_url_is_one_that_reaches_the_socket(tmp_path: Path, changes: dict[str, str], url: str) -> None:
    assert resolve_workspace_url(load_settings(environ(tmp_path, **changes)), 8000) == url


def test_without_a_host_name_the_url_has_an_address(tmp_path: Path) -> None:
    url = resolve_workspace_url(load_settings(environ(tmp_path)), 8000)
    assert url.startswith("http://")
    assert "0.0.0.0" not in url  # noqa: S104 - it is what must not be there


def test_the_token_is_not_shown(tmp_path: Path) -> None:
    settings = load_settings(environ(tmp_path, MOLECULE_WORKSPACE_TOKEN="secret-token-1"))  # noqa: S106 - of a test
    assert "secret-token-1" not in repr(settings)
    assert settings.target.token.read() == "secret-token-1"


def test_gaps_in_an_adapters_skills_are_filled_and_nonsense_is_left_out() -> None:
    skills = skills_of(
        [{"name": "Sing"}, {"id": "dance", "tags": ["a", ""], "examples": "no list"}, {}],
        name="n",
        description="d",
        tag="t",
    )
    assert [(skill.id, skill.name, skill.description, skill.tags, skill.examples) for skill in skills] == [
        ("Sing", "Sing", "Sing", ("t",), ()),
        ("dance", "dance", "dance", ("a",), ()),
    ]
    assert [skill.description for skill in skills_of([], name="n", description="d", tag="t")] == ["d"]
