"""The seed: what a file means, and what is said about one that cannot be used."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from molecule_runtime.localplatform import cli
from molecule_runtime.localplatform.errors import SeedError
from molecule_runtime.localplatform.team.members import Member, RestartRule
from molecule_runtime.localplatform.team.reading import load_team, read_team
from molecule_runtime.localplatform.team.seats import Address, Seat, choose_port, environment, folder_name
from molecule_runtime.localplatform.team.seed import json_schema

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

README = Path(__file__).parents[1] / "README.md"
ENVIRON = {"PATH": "/usr/bin:/bin", "MY_KEY": "the value of my key"}
SECRET = "sk-ant-" + "Zq7Rt2" * 5  # made up, and looked for in messages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shout.py").write_text("class Adapter: ...\n")
    (tmp_path / "planets.csv").write_text("planet\nMars\n")
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o700)
    return tmp_path


def members(folder: Path, text: str) -> dict[str, Member]:
    file = folder / "team.yaml"
    file.write_text(text)
    return {member.name: member for member in read_team(file, ENVIRON).members}


def example() -> str:
    (found,) = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


# --- what it means -----------------------------------------------------------------------------------------------------


def test_parents_come_first_whether_by_nesting_or_by_name(folder: Path) -> None:
    team = members(
        folder,
        """
        workspaces:
          - {name: low, parent: middle, runtime: table}
          - name: top
            runtime: lead
            children:
              - {name: middle, runtime: lead}
        """,
    )
    assert list(team) == ["top", "middle", "low"]
    assert [member.parent for member in team.values()] == [None, "top", "middle"]


def test_a_member_that_says_nothing_has_the_defaults(folder: Path) -> None:
    team = members(
        folder,
        """
        defaults:
          adapter: ./shout.py
          config: {model: "x:one", runtime_config: {timeout: 5, mark: "!"}}
          env: {A: one, B: two}
          restart: {policy: always, attempts: 2}
        workspaces:
          - name: plain
          - name: own
            runtime: table
            config: {runtime_config: {mark: "?"}}
            env: {B: three}
            restart: never
        """,
    )
    plain, own = team["plain"], team["own"]
    assert (plain.adapter_module, plain.adapter_folder, plain.runtime) == ("shout", folder, "shout")
    assert plain.restart == RestartRule(policy="always", attempts=2)
    # A runtime of one's own is not mixed with the adapter of the others.
    assert (own.adapter_module, own.adapter_folder, own.runtime) == ("", None, "table")
    assert own.config == {"model": "x:one", "runtime_config": {"timeout": 5, "mark": "?"}}
    assert own.environ == {"A": "one", "B": "three"}
    assert own.restart == RestartRule(policy="never", attempts=5)


def test_values_refer_to_the_environment_of_molecule_local(folder: Path) -> None:
    team = members(
        folder,
        """
        workspaces:
          - name: a
            runtime: lead
            env: {ONE: $MY_KEY, TWO: "${MY_KEY}", THREE: {from_env: MY_KEY}, FOUR: $$MY_KEY, FIVE: 1.10, SIX: no, SEVEN: ""}
        """,
    )
    value = ENVIRON["MY_KEY"]
    assert team["a"].environ == {
        "ONE": value,
        "TWO": value,
        "THREE": value,
        "FOUR": "$MY_KEY",
        "FIVE": "1.10",
        "SIX": "no",
        "SEVEN": "",
    }
    assert value not in repr(team)


def test_paths_are_relative_to_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    team = members(
        folder,
        """
        workspaces:
          - {name: a, adapter: ./shout.py, files: [planets.csv]}
          - {name: b, command: [./run, --fast]}
          - {name: c, command: [sh, -c, exit]}
          - {name: d, adapter: molecule_runtime.a2a.examples.calculator}
        """,
    )
    assert team["a"].adapter_folder == folder
    assert team["a"].files == (folder / "planets.csv",)
    assert team["b"].command == (str(folder / "run"), "--fast")
    assert (Path(team["c"].command[0]).name, team["c"].command[1:], team["c"].runtime) == ("sh", ("-c", "exit"), "sh")
    assert (team["d"].adapter_module, team["d"].adapter_folder) == ("molecule_runtime.a2a.examples.calculator", None)


def test_a_member_from_elsewhere_polls_unless_it_says_otherwise(folder: Path) -> None:
    team = members(
        folder,
        """
        workspaces:
          - {name: one, external: true}
          - {name: two, runtime: external, delivery: push}
        """,
    )
    assert [(member.external, member.delivery) for member in team.values()] == [(True, "poll"), (True, "push")]


def test_an_absent_role_is_not_an_empty_one(folder: Path) -> None:
    team = members(folder, "workspaces: [{name: a, runtime: lead}, {name: b, runtime: lead, role: ''}]")
    assert [member.role for member in team.values()] == [None, ""]


def test_the_example_in_the_readme_can_be_read_and_fits_the_schema(folder: Path) -> None:
    text = example()
    (folder / "team.yaml").write_text(text)
    for name in re.findall(r"\./([\w.]+)", text):
        (folder / name).touch()
    environ = {**ENVIRON, **dict.fromkeys(re.findall(r"\$([A-Z_]+)", text), "x")}
    loaded = load_team(folder / "team.yaml", environ)
    assert loaded.findings == ()
    assert loaded.team is not None
    assert len(loaded.team.members) >= 4
    jsonschema.validate(yaml.safe_load(text), json_schema())


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up", "--seed-schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    good: dict[str, Any] = {
        "workspaces": [{"name": "a", "restart": "never", "children": [{"name": "b", "env": {"A": 1}}]}]
    }
    jsonschema.validate(good, schema)
    bad: list[Any] = [{}, {"workspaces": [{}]}, {"workspaces": [{"name": "a", "restart": "now"}]}]
    for wrong in bad:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


# --- what is wrong with it -----------------------------------------------------------------------------------------------

BAD: list[tuple[str, str, str, str]] = [
    # file, place of the finding, code, a word of the message or remedy
    ("- a\n", "1:1", "not-a-mapping", "mapping"),
    ("workspaces: [", "1:14", "syntax", "YAML"),
    ("a: b\n", "", "missing-key", "workspaces"),
    ("workspaces: []\n", "1:13", "no-members", "name"),
    ("workspaces: [{role: x}]\n", "1:14", "missing-key", "name"),
    ("workspaces: [{name: a}]\n", "1:14", "nothing-to-run", "adapter"),
    ("workspaces: [{name: ' ', runtime: lead}]\n", "1:21", "wrong-value", "empty"),
    ("workspaces: [{name: a*b, runtime: lead}]\n", "1:21", "wrong-value", "'*'"),
    (f"workspaces: [{{name: {'n' * 256}, runtime: lead}}]\n", "1:21", "wrong-value", "255"),
    (f"workspaces: [{{name: a, role: {'n' * 1001}, runtime: lead}}]\n", "1:30", "wrong-value", "1000"),
    ("workspaces: [{name: a, runtime: lead},\n {name: A, runtime: lead}]\n", "2:9", "duplicate-name", "line 1"),
    ("workspaces: [{name: a, runtime: lead, name: b}]\n", "1:39", "duplicate-key", "line 1"),
    ("workspaces: [{name: a, runtime: laed}]\n", "1:33", "unknown-runtime", "did you mean lead"),
    ("workspaces: [{name: a, runtime: lead, parent: b}]\n", "1:47", "unknown-parent", "not a member"),
    ("workspaces: [{name: boss, runtime: lead}, {name: a, runtime: lead, parent: bos}]\n", "1:76", "unknown-parent", "'boss'"),
    ("workspaces: [{name: a, runtime: lead, parent: a}]\n", "1:47", "cycle", "'a' below 'a'"),
    (
        "workspaces:\n- {name: a, runtime: lead, parent: b}\n- {name: b, runtime: lead, parent: c}\n"
        "- {name: c, runtime: lead, parent: a}\n",
        "2:36",
        "cycle",
        "'a' below 'b' below 'c' below 'a'",
    ),
    (
        "workspaces:\n- {name: a, runtime: lead, parent: b, children: [{name: b, runtime: lead}]}\n",
        "2:36",
        "cycle",
        "'a' below 'b' below 'a'",
    ),
    (
        "workspaces:\n- {name: a, runtime: lead}\n- {name: b, runtime: lead, children: [{name: c, runtime: lead, parent: a}]}\n",
        "3:72",
        "two-parents",
        "'b'",
    ),
    ("workspaces: [{name: a, runtime: lead, port: 70000}]\n", "1:45", "wrong-value", "65535"),
    ("workspaces: [{name: a, runtime: lead, port: '80'}]\n", "1:45", "wrong-value", "quotes"),
    ("workspaces: [{name: a, runtime: lead, port: 5000}, {name: b, runtime: lead, port: 5000}]\n", "1:83", "duplicate-port", "'a'"),
    ("workspaces: [{name: a, runtime: lead, restart: maybe}]\n", "1:48", "wrong-value", "on-failure"),
    ("workspaces: [{name: a, runtime: lead, restart: {attempts: 0}}]\n", "1:59", "wrong-value", "at least 1"),
    ("workspaces: [{name: a, adapter: ./nowhere.py}]\n", "1:33", "missing-file", "nowhere.py"),
    ("workspaces: [{name: a, adapter: ./}]\n", "1:33", "wrong-file", "folder"),
    ("workspaces: [{name: a, adapter: ./planets.csv}]\n", "1:33", "wrong-file", ".py"),
    ("workspaces: [{name: a, adapter: no_such_module.adapter}]\n", "1:33", "unknown-adapter", "installed"),
    ("workspaces: [{name: a, adapter: 'no module'}]\n", "1:33", "wrong-value", "./FILE.py"),
    ("workspaces: [{name: a, command: [no-such-program]}]\n", "1:34", "unknown-command", "install"),
    ("workspaces: [{name: a, command: [./planets.csv]}]\n", "1:34", "unknown-command", "executed"),
    ("workspaces: [{name: a, command: {x: y}}]\n", "1:33", "wrong-value", "list"),
    ("workspaces: [{name: a, runtime: lead, delivery: poll}]\n", "1:49", "wrong-value", "external"),
    ("workspaces: [{name: a, runtime: lead, files: [nowhere]}]\n", "1:47", "missing-file", "nowhere"),
    ("workspaces: [{name: a, runtime: lead, files: [planets.csv, ./planets.csv]}]\n", "1:60", "wrong-file", "another file"),
    ("workspaces: [{name: a, runtime: lead, env: {A: $NOWHERE}}]\n", "1:48", "unset-variable", "NOWHERE"),
    ("workspaces: [{name: a, runtime: lead, env: {A: $MY_KEY/x}}]\n", "1:48", "wrong-value", "$$"),
    ("workspaces: [{name: a, runtime: lead, env: {A: }}]\n", "1:47", "wrong-value", "from_env"),
    ("workspaces: [{name: a, runtime: lead, env: {A: {from_env: MY_KEY, value: x}}}]\n", "1:48", "wrong-value", "from_env"),
    ("workspaces: [{name: a, runtime: lead, env: {A B: x}}]\n", "1:45", "wrong-key", "letters"),
    ("workspaces: [{name: a, runtime: lead, env: {WORKSPACE_ID: x}}]\n", "1:45", "wrong-key", "molecule-local itself"),
    ("workspaces: [{name: a, runtime: lead, config: {a2a: {port: 1}}}]\n", "1:60", "wrong-key", "outside of `config`"),
    ("workspaces: [{name: a, runtime: lead, config: {name: b}}]\n", "1:54", "wrong-key", "outside of `config`"),
    ("workspaces: [{name: a, runtime: lead, config: {tier: high}}]\n", "1:54", "wrong-value", "whole number"),
    ("defaults: {env: {A: $NOWHERE}}\nworkspaces: [{name: a, external: true}]\n", "1:21", "unset-variable", "NOWHERE"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "place", "code", "said"), BAD, ids=[f"{case[2]}-{index}" for index, case in enumerate(BAD)])  # fmt: skip
def test_a_wrong_seed_is_refused_with_place_reason_and_remedy(
    text: str, place: str, code: str, said: str, folder: Path
) -> None:
    file = folder / "team.yaml"
    file.write_text(text)
    loaded = load_team(file, ENVIRON)
    assert loaded.team is None
    (finding,) = [finding for finding in loaded.findings if finding.severity == "error"]
    assert (finding.code, finding.place) == (code, f"{file}:{place}" if place else str(file))
    assert said in str(finding)
    assert finding.remedy


def test_everything_that_is_wrong_is_said_at_once(folder: Path) -> None:
    file = folder / "team.yaml"
    file.write_text(
        "workspaces:\n"
        "- {name: a, runtime: laed, port: 70000, prot: 3}\n"
        "- {name: A, adapter: ./nowhere.py, parent: x, env: {A: $NOWHERE, B: {value: 1, from_env: C}}}\n"
    )
    with pytest.raises(SeedError) as caught:
        read_team(file, ENVIRON)
    assert [(finding.line, finding.column, finding.code) for finding in caught.value.findings] == [
        (2, 22, "unknown-runtime"),
        (2, 34, "wrong-value"),
        (2, 41, "unknown-key"),
        (3, 10, "duplicate-name"),
        (3, 22, "missing-file"),
        (3, 44, "unknown-parent"),
        (3, 56, "unset-variable"),
        (3, 69, "wrong-value"),
    ]


def test_what_is_wrong_with_a_default_is_said_once(folder: Path) -> None:
    file = folder / "team.yaml"
    file.write_text("defaults: {adapter: ./nowhere.py}\nworkspaces: [{name: a}, {name: b}]\n")
    assert [finding.place for finding in load_team(file, ENVIRON).findings] == [f"{file}:1:21"]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("workspcaes: []\nworkspaces: [{name: a, runtime: lead}]\n", "workspaces"),
        ("workspaces: [{name: a, runtime: lead, prnt: b}]\n", "parent"),
        ("workspaces: [{name: a, runtime: lead, config: {modle: x}}]\n", "config.model"),
        ("workspaces: [{name: a, external: true, port: 5}]\n", "external"),
    ],
)
def test_what_means_nothing_is_worth_a_warning(text: str, near: str, folder: Path) -> None:
    file = folder / "team.yaml"
    file.write_text(text)
    loaded = load_team(file, ENVIRON)
    assert loaded.team is not None
    (finding,) = loaded.findings
    assert (finding.severity, near in finding.remedy) == ("warning", True)


def test_too_many_members_are_refused(folder: Path) -> None:
    file = folder / "team.yaml"
    file.write_text("workspaces:\n" + "".join(f"- {{name: m{index}, runtime: lead}}\n" for index in range(257)))
    (finding,) = load_team(file, ENVIRON).findings
    assert (finding.code, "257" in finding.message) == ("too-many", True)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "missing-file"),
        (b"workspaces: \xff\n", "encoding"),
        (b"#" * 300_000, "too-large"),
        (b"a: &x [1]\nb: [" + b"*x," * 60_000 + b"]\n", "too-large"),
        (b"workspaces: " + b"[" * 100 + b"]" * 100, "too-deep"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(content: bytes | None, code: str, tmp_path: Path) -> None:
    file = tmp_path / "team.yaml"
    if content is not None:
        file.write_bytes(content)
    (finding,) = load_team(file, ENVIRON).findings
    assert finding.code == code


def test_a_folder_is_no_seed(tmp_path: Path) -> None:
    (finding,) = load_team(tmp_path, ENVIRON).findings
    assert finding.code == "unreadable"


def test_no_message_shows_a_secret(folder: Path) -> None:
    file = folder / "team.yaml"
    file.write_text(
        f"workspaces:\n- {{name: a, runtime: {SECRET}, env: {{A: {{from_env: {SECRET}}}, B: ${SECRET}}}, restart: {SECRET}}}\n"
        f"- {{name: b, parent: {SECRET}, adapter: ./{SECRET}.py, command: [{SECRET}], {SECRET}: x}}\n"
    )
    findings = load_team(file, {**ENVIRON, "MY_KEY": SECRET}).findings
    assert len(findings) > 5
    assert not [finding for finding in findings if SECRET in str(finding) or SECRET in json.dumps(finding.to_dict())]


def test_a_bad_seed_is_exit_code_2_and_leaves_nothing_behind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "team.yaml").write_text("workspaces:\n- {name: a, runtime: laed, prot: 1}\n")
    data = folder / "data"
    assert cli.main(["up", "--port", "0", "--data", str(data), "--seed", str(folder / "team.yaml")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    error, warning = captured.err.splitlines()
    assert error.startswith(f"molecule-local: {folder / 'team.yaml'}:2:22: workspaces[0].runtime")
    assert "warning:" in warning
    assert not data.exists()


def test_pruning_needs_a_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up", "--data", str(tmp_path / "data"), "--prune"]) == 2
    assert "--seed" in capsys.readouterr().err


def test_a_rule_that_would_refuse_every_member_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "team.yaml").write_text("workspaces: [{name: a, runtime: lead}]\n")
    arguments = ["up", "--data", str(folder / "data"), "--seed", str(folder / "team.yaml"), "--url-rule", "strict"]
    assert cli.main(arguments) == 2
    assert "--url-rule" in capsys.readouterr().err


def test_a_missing_host_is_named_with_the_line_that_installs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "molecule_runtime.a2a" else real(name, package)

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", find)
    (folder / "team.yaml").write_text("workspaces: [{name: a, runtime: lead}]\n")
    with pytest.raises(ImportError, match="pip install molecule-runtime-a2a"):
        read_team(folder / "team.yaml", ENVIRON)
    # Nobody needs it for agents that bring their own host, or live elsewhere.
    (folder / "team.yaml").write_text("workspaces: [{name: a, command: [sh]}, {name: b, external: true}]\n")
    assert len(read_team(folder / "team.yaml", ENVIRON).members) == 2


# --- seats -------------------------------------------------------------------------------------------------------------


def test_every_name_has_a_folder_of_its_own() -> None:
    names = ["lead", "Research Team", "../../etc", "a/b", "a b", "größe", "..", "-", "日本", "n" * 255]
    folders = [folder_name(name) for name in names]
    assert folders[0] == "lead"
    assert len(set(folders)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", folder) for folder in folders), folders


def test_a_process_gets_what_it_needs_and_nothing_else_of_ours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATORS_SECRET", SECRET)
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    team = members(folder, "workspaces: [{name: a, adapter: ./shout.py, role: Shouts, env: {A: one, HOME: /home/me}}]")
    seat = Seat(member=team["a"], workspace_id="w-1", folder=folder / "a", port=5)
    variables = environment(seat, Address(url="http://127.0.0.1:1", org_id="org-1"))
    assert SECRET not in json.dumps(variables)
    assert {name: variables[name] for name in ("A", "HOME", "WORKSPACE_ID", "PLATFORM_URL", "MOLECULE_ORG_ID")} == {
        "A": "one",
        "HOME": "/home/me",
        "WORKSPACE_ID": "w-1",
        "PLATFORM_URL": "http://127.0.0.1:1",
        "MOLECULE_ORG_ID": "org-1",
    }
    assert variables["ADAPTER_MODULE"] == "shout"
    assert variables["PYTHONPATH"] == f"{folder}:/elsewhere"
    assert variables["MOLECULE_WORKSPACE_TOKEN_FILE"] == str(folder / "a" / ".auth_token")


def test_a_port_that_was_taken_is_replaced() -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        port = choose_port(Member(name="a"), taken, ())
        assert port not in {0, taken}
        # One that the seed asks for is never replaced by another.
        assert choose_port(Member(name="a", port=taken), 0, ()) == taken
    assert choose_port(Member(name="a"), port, ()) == port
    assert choose_port(Member(name="a"), port, {port}) != port


def test_an_adapter_must_not_stand_where_it_cannot_be_imported_from(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "mine.py").touch()
    (folder / "team.yaml").write_text("workspaces: [{name: a, adapter: ./mine.py}]\n")
    (finding,) = load_team(folder / "team.yaml", ENVIRON).findings
    assert (finding.code, "':'" in finding.message) == ("wrong-file", True)


def test_an_adapter_must_not_have_the_name_of_an_installed_module(folder: Path) -> None:
    for name in ("calendar", "yaml", "class", "not-a-name"):
        (folder / f"{name}.py").write_text("class Adapter: ...\n")
        (folder / "team.yaml").write_text(f"workspaces: [{{name: a, adapter: ./{name}.py}}]\n")
        (finding,) = load_team(folder / "team.yaml", ENVIRON).findings
        assert finding.code == "wrong-file", name
    assert "calendar" in sys.stdlib_module_names
