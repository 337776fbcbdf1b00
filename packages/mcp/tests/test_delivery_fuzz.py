"""Whatever a name, a value or the rest of a file holds: it survives, or the change is refused and the file is as it was."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import tomlkit
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molecule_runtime.core.adapter.mcp_port import client_for
from molecule_runtime.mcp.delivery.errors import DeliveryError
from molecule_runtime.mcp.delivery.jsonc import Jsonc
from molecule_runtime.mcp.delivery.toml_text import Toml
from molecule_runtime.mcp.delivery.yaml_text import Yaml

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.mcp.delivery.client import Format

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
NAME = TEXT.filter(lambda text: bool(text.strip()) and not any(ord(character) < 32 for character in text))
SPEC = st.fixed_dictionaries(
    {"command": TEXT.filter(bool)},
    optional={
        "args": st.lists(TEXT, min_size=1, max_size=3),
        "env": st.dictionaries(TEXT, TEXT, min_size=1, max_size=3),
    },
)
VALUE = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**53), 2**53), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)
DOCUMENT = st.dictionaries(TEXT, VALUE, max_size=4)
SERVERS = st.dictionaries(NAME, SPEC, max_size=3)

bounded = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
engines = pytest.mark.parametrize("engine", ["claude_code", "codex", "hermes", "openclaw"])


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CODEX_HOME", "HERMES_HOME"):
        monkeypatch.delenv(name, raising=False)


@engines
@bounded
@given(name=NAME, spec=SPEC, others=SERVERS)
def test_any_server_is_read_back_as_it_was_written(
    engine: str, name: str, spec: dict[str, Any], others: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    client = client_for(engine)
    path = client.settings_path(str(tmp_path))
    path.unlink(missing_ok=True)
    for other, their in others.items():
        client.register(str(tmp_path), other, their)
    client.register(str(tmp_path), name, spec)
    once = path.read_bytes()
    assert client.servers(str(tmp_path)) == {**others, name: spec}
    client.register(str(tmp_path), name, spec)
    assert path.read_bytes() == once
    assert client.remove(str(tmp_path), name)
    assert client.servers(str(tmp_path)) == {other: their for other, their in others.items() if other != name}


def as_json(document: dict[str, Any], servers: dict[str, Any]) -> tuple[Format, str, str]:
    return Jsonc(), "mcpServers", json.dumps({**document, "mcpServers": servers}, indent=2)


def as_toml(document: dict[str, Any], servers: dict[str, Any]) -> tuple[Format, str, str]:
    return Toml(), "mcp_servers", tomlkit.dumps({**document, "mcp_servers": servers})


def as_yaml(document: dict[str, Any], servers: dict[str, Any]) -> tuple[Format, str, str]:
    return Yaml(), "mcp_servers", yaml.safe_dump({**document, "mcp_servers": servers}, allow_unicode=True)


@pytest.mark.parametrize("how", [as_json, as_toml, as_yaml])
@bounded
@given(document=DOCUMENT, servers=SERVERS, name=NAME, spec=SPEC)
def test_the_rest_of_any_document_means_the_same(
    how: Any, document: dict[str, Any], servers: dict[str, Any], name: str, spec: dict[str, Any]
) -> None:
    form, key, text = how(document, servers)
    try:
        before = form.parse(text)
    except ValueError:
        return
    assert form.parse(form.put(text, (key,), name, spec)) == {**before, key: {**(before.get(key) or {}), name: spec}}
    # What PyYAML wrote for the test may already read differently, so what counts is what the text says.
    declared: dict[str, Any] = dict(before.get(key) or {})
    if name in declared:
        del declared[name]
        after = form.parse(form.drop(text, (key,), name))
        assert {**after, key: after.get(key) or {}} == {**before, key: declared}


@engines
@bounded
@given(content=st.one_of(st.binary(max_size=60), TEXT.map(str.encode)))
def test_any_bytes_are_understood_or_left_alone(engine: str, content: bytes, tmp_path: Path) -> None:
    client = client_for(engine)
    path = client.settings_path(str(tmp_path))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        client.register(str(tmp_path), "it", {"command": "x"})
    except DeliveryError:
        assert path.read_bytes() == content
    else:
        assert client.servers(str(tmp_path))["it"] == {"command": "x"}
        with contextlib.suppress(DeliveryError):
            client.remove(str(tmp_path), "it")
