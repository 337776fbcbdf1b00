"""What a person wrote into an engine's file stays: comments, order, quoting, indentation."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from molecule_runtime.mcp.delivery.jsonc import Jsonc
from molecule_runtime.mcp.delivery.toml_text import Toml
from molecule_runtime.mcp.delivery.yaml_text import Yaml

if TYPE_CHECKING:
    from molecule_runtime.mcp.delivery.client import Format

ENTRY: dict[str, Any] = {"command": "x", "args": ["1"], "env": {"A": "b"}}

JSON_FILES = [
    "{}",
    "{ }\n",
    '{"a": 1}',
    '{\n    "a": 1\n}\n',
    '{\n\t"a": 1,\n\t"mcpServers": {\n\t\t"old": {"command": "o"}\n\t}\n}\n',
    '{"mcpServers": {}}',
    '{"mcpServers": null, "z": [1, 2,],}',
    '// head\n{\n  // about a\n  "a": 1, // one\n  "mcpServers": {\n    "old": { "command": "o" } // the old one\n  },\n}\n// tail\n',
    '{\n  "mcpServers": {\n    "old": {"command": "o"},\n    /* last */\n  } }',
    '{"mcpServers": {"it": {"command": "was"}, "old": {"command": "o"}}}',
    '{\r\n  "a": 1,\r\n  "mcpServers": {\r\n    "it": {\r\n      "command": "was"\r\n    }\r\n  }\r\n}\r\n',
    '{"a": "// no comment", "b": "/* nor this */", "c": "\\"}", "mcpServers": {"old": {"command": "{,}"}}}',
    '{"big": 12345678901234567890, "exact": 1.10, "e": 1e3}',
]

TOML_FILES = [
    "",
    "# only a comment\n",
    'model = "m" # the model\n\n[profile]\na = 1 # one\n',
    '[mcp_servers.old]\ncommand = "o"\n\n# about the next\n[other]\nb = 2',
    '[mcp_servers.it]\ncommand = "was"\nargs = [\n  "a", # one\n  "b",\n]\n\n[mcp_servers.it.env]\nX = "y"\n\n# about tui\n[tui]\nt = 1\n',
    '[mcp_servers."it"]\ncommand = "was"\n[tui]\nt = 1\n[mcp_servers.it.env]\nX = "y"\n',
    'mcp_servers = { old = { command = "o" } }\n[tui]\nt = 1\n',
    'mcp_servers.it.command = "was"\nmcp_servers.old.command = "o"\n',
    '[mcp_servers]\nit = { command = "was" }\nold = { command = "o" }\n[tui]\nt = 1\n',
    '[mcp_servers]\n[mcp_servers.old]\ncommand = "o"\n',
    '# >>> molecule-mcp:it >>>\n[mcp_servers.it]\ncommand = "was"\n# <<< molecule-mcp:it <<<\n\n[tui]\nt = 1\n',
    'text = """\n[mcp_servers.it]\ncommand = "not a table"\n"""\n',
    '[[history]]\na = 1\n[[history]]\na = 2\n[mcp_servers.items]\ncommand = "o"\n',
    'model = "m"\r\n\r\n[mcp_servers.old]\r\ncommand = "o"\r\n',
]

YAML_FILES = [
    "",
    "# only a comment\n",
    "model: m  # the model\nlist:\n- a\n- b\n",
    "mcp_servers:\n  old:\n    command: o  # keep\n\n# about the next\nother: 1\n",
    "mcp_servers:\n    it:\n        command: was\n        args: [a, b]\n    # about old\n    old:\n        command: o\ntail: [1, 2]\n",
    "mcp_servers: {}\nafter: 1 # x\n",
    "mcp_servers:\nafter: 1\n",
    "mcp_servers: null # none yet\n",
    "mcp_servers: {old: {command: o}}\nafter: 1\n",
    "a: 1\nmcp_servers:\n  old:\n    command: |\n      two\n      lines\n# end\n",
    "base: &base {command: o}\nmcp_servers:\n  old: *base\n  other:\n    <<: *base\n    args: []\n",
    'mcp_servers:\n  "it":\n    command: was\n  old: {command: o}',
    "a: 1\r\nmcp_servers:\r\n  old:\r\n    command: o\r\nb: 2\r\n",
    "{a: 1, mcp_servers: {old: {command: o}}}\n",
    "---\na: 1\n",
    "---\n",
    'mcp_servers:\n  ? "o\\x85"\n  : command: o\n  ? it\n  : command: was\n',
    "mcp_servers:\n  old:\n    command: o\n    args:\n    - a\n    -\n  last:\n    command:\n",
]

CASES: list[tuple[Format, str, str]] = [
    *((Jsonc(), "mcpServers", text) for text in JSON_FILES),
    *((Toml(), "mcp_servers", text) for text in TOML_FILES),
    *((Yaml(), "mcp_servers", text) for text in YAML_FILES),
]


@pytest.mark.parametrize(("how", "key", "text"), CASES)
def test_a_server_is_added_to_any_file_and_everything_else_means_the_same(how: Format, key: str, text: str) -> None:
    before = how.parse(text)
    changed = how.put(text, (key,), "it", ENTRY)
    assert how.parse(changed) == {**before, key: {**(before.get(key) or {}), "it": ENTRY}}
    removed = how.parse(how.drop(changed, (key,), "it"))
    rest: dict[str, Any] = dict(before.get(key) or {})
    rest.pop("it", None)
    assert {**removed, key: removed.get(key) or {}} == {**before, key: rest}


@pytest.mark.parametrize(("how", "key", "text"), CASES)
def test_every_comment_outside_the_server_stays(how: Format, key: str, text: str) -> None:
    changed = how.put(text, (key,), "it", ENTRY)
    for line in text.splitlines():
        for mark in ("# ", "// ", "/* "):
            comment = line[line.find(mark) :].rstrip() if mark in line else ""
            if comment and "molecule-mcp:" not in comment and comment != "# one" and "no comment" not in text:
                assert comment in changed


def test_only_the_lines_of_the_server_change() -> None:
    """Each format, with the server in the middle of a file that a person wrote."""
    for how, key, text in (
        (Jsonc(), "mcpServers", JSON_FILES[7]),
        (Toml(), "mcp_servers", TOML_FILES[4]),
        (Yaml(), "mcp_servers", YAML_FILES[4]),
    ):
        changed = how.put(text, (key,), "it", ENTRY)
        kept = [line for line in text.splitlines() if line.strip()]
        gone = [line for line in kept if line.replace(",", "") not in changed.replace(",", "")]
        assert all(
            "was" in line or "X =" in line or "args" in line or '"a", # one' in line or '"b",' in line for line in gone
        ), gone


def test_the_indentation_of_the_file_is_used() -> None:
    assert '\n\t"mcpServers": {\n\t\t"it": {\n\t\t\t"command": "x",' in Jsonc().put(
        '{\n\t"a": 1\n}', ("mcpServers",), "it", ENTRY
    )


def test_nested_keys_are_made_where_they_are_missing() -> None:
    for text in ("", "{}", '{"mcp": {}}', '{"mcp": {"a": 1}}', '{"mcp": null}', '{"mcp": {"servers": {"old": {}}}}'):
        changed = Jsonc().parse(Jsonc().put(text, ("mcp", "servers"), "it", ENTRY))
        assert changed["mcp"]["servers"]["it"] == ENTRY


def test_a_hand_written_toml_table_of_the_same_name_is_replaced_where_it_stood() -> None:
    """Contract runtime.md 20.1 item 11: the predecessor appended a second one, and the file no longer parsed."""
    changed = Toml().put(TOML_FILES[4], ("mcp_servers",), "it", ENTRY)
    assert changed.count("[mcp_servers.it]") == 1
    assert changed.index("[mcp_servers.it]") < changed.index("# about tui") < changed.index("[tui]")
    assert "was" not in changed


def test_the_markers_of_the_predecessor_are_taken_along() -> None:
    changed = Toml().put(TOML_FILES[10], ("mcp_servers",), "it", ENTRY)
    assert "molecule-mcp" not in changed
    assert tomllib.loads(changed)["tui"] == {"t": 1}


def test_a_place_is_named_in_what_is_wrong_with_json() -> None:
    with pytest.raises(ValueError, match="line 2 column 8"):
        Jsonc().parse('{\n  "a": nope\n}')


def test_json_that_is_nested_too_deeply_is_refused_and_not_a_crash() -> None:
    with pytest.raises((ValueError, RecursionError)):
        Jsonc().parse("[" * 100_000)


def test_yaml_keeps_the_order_of_the_servers() -> None:
    changed = Yaml().put(YAML_FILES[4], ("mcp_servers",), "it", ENTRY)
    assert list(yaml.safe_load(changed)["mcp_servers"]) == ["it", "old"]
    assert list(yaml.safe_load(Yaml().put(changed, ("mcp_servers",), "new", ENTRY))["mcp_servers"]) == [
        "it",
        "old",
        "new",
    ]
