"""What is wrong with a file: the place, the key, the value and the remedy, all at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.core.config import load

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.config.findings import Finding


def check(folder: Path, text: str | bytes, *, strict: bool = False, **environ: str) -> tuple[Finding, ...]:
    (folder / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(folder, environ, strict=strict).findings


EVERYTHING = """\
name: [not, text]
tier: -1
a2a:
  port: "8000"
  streaming: maybe
delegation:
  timeout: 0
  retry_attempts: 1.5
sandbox: {backend: firecracker, memory_limit: lots}
security_scan: sometimes
governance:
  policy_mode: lenient
rbac: operator
hitl:
  channels: [{type: pigeon}]
skills: [ok, 7, ../x]
env:
  required: [A KEY]
nmae: x
"""


def test_every_finding_is_reported_at_once_with_its_place(tmp_path: Path) -> None:
    found = check(tmp_path, EVERYTHING)
    assert [(finding.line, finding.column, finding.key, finding.value) for finding in found] == [
        (1, 7, "name", "a list"),
        (2, 7, "tier", "-1"),
        (4, 9, "a2a.port", "'8000'"),
        (5, 14, "a2a.streaming", "'maybe'"),
        (7, 12, "delegation.timeout", "0"),
        (8, 19, "delegation.retry_attempts", "1.5"),
        (9, 20, "sandbox.backend", "'firecracker'"),
        (9, 47, "sandbox.memory_limit", "'lots'"),
        (10, 16, "security_scan.mode", "'sometimes'"),
        (12, 16, "governance.policy_mode", "'lenient'"),
        (13, 7, "rbac", "'operator'"),
        (15, 21, "hitl.channels[0].type", "'pigeon'"),
        (16, 17, "skills[2]", "'../x'"),
        (18, 14, "env.required[0]", "'A KEY'"),
        (19, 1, "nmae", None),
    ]
    assert all(finding.remedy and finding.message and finding.file.endswith("config.yaml") for finding in found)


OR_DEFAULT = "; correct it, or remove the key for the default"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a2a: {port: 99999}", f"a2a.port must be a whole number from 1 to 65535 (found 99999){OR_DEFAULT} (8000)"),
        ("a2a: {port: '8000'}", "a2a.port must be a whole number from 1 to 65535 (found '8000'); remove the quotes"),
        ("a2a: {streaming: 'true'}", "a2a.streaming must be true or false (found 'true'); remove the quotes"),
        (
            "sandbox: {backend: vm}",
            f"sandbox.backend must be one of bubblewrap, docker, e2b, none, subprocess (found 'vm'){OR_DEFAULT} ('bubblewrap')",
        ),
        ("task_budget: 5", f"task_budget must be 0 for none, or at least 20000 (found 5){OR_DEFAULT} (0)"),
        ("tools: x", "tools must be a list of texts (found 'x'); correct it"),
        ("a2a: 8000", "a2a must be a mapping (found '8000'); correct it"),
        ("delegation: {timeout: .inf}", f"delegation.timeout must be a number above 0 (found inf){OR_DEFAULT} (120)"),
        ("delegation: {timeout: .nan}", f"delegation.timeout must be a number above 0 (found nan){OR_DEFAULT} (120)"),
    ],
)
def test_a_finding_is_one_sentence_with_the_rule_and_the_remedy(tmp_path: Path, text: str, sentence: str) -> None:
    (found,) = check(tmp_path, text)
    assert str(found).removeprefix(f"{found.place}: ") == sentence


# --- keys that nothing knows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("naem: x", "name"),
        ("skils: [a]", "skills"),
        ("skils: [a]\nskills: [b]", "skills"),
        ("a2a: {prot: 1}", "a2a.port"),
        ("port: 9000", "a2a.port"),
        ("runtime_config: {timout: 5}", "runtime_config.timeout"),
        ("Model: x", "model"),
    ],
)
def test_an_unknown_key_is_kept_with_a_warning_that_names_the_nearest(tmp_path: Path, text: str, near: str) -> None:
    (found,) = check(tmp_path, text)
    assert (found.severity, found.code, found.remedy) == ("warning", "unknown-key", f"did you mean {near}?")


def test_an_unknown_key_with_nothing_near_is_named_and_kept(tmp_path: Path) -> None:
    (found,) = check(tmp_path, "name: x\nzzz:\n  a: 1\n")
    assert (found.key, found.line, found.column, found.severity) == ("zzz", 2, 1, "warning")
    config = load(tmp_path, {}).config
    assert config is not None
    assert config.model_extra == {"zzz": {"a": 1}}


def test_an_unknown_key_is_an_error_only_when_strict(tmp_path: Path) -> None:
    text = "zzz: 1\nruntime_config: {whatever: 1}\n"
    assert [finding.severity for finding in check(tmp_path, text)] == ["warning"]
    assert [finding.severity for finding in check(tmp_path, text, strict=True)] == ["error"]


@pytest.mark.parametrize(
    "text",
    [
        "runtime_config: {gateway_port: 1, provider_url: x, mode: y}",
        "models: [{id: a, context: 5, price: 1}]",
        "x-common: &common {a: 1}\n.hidden: 2",
        "plugins: [{name: p, config: {a: 1}}]",
        "role: x\ntemplate: y\ngithub_repo: z\nfiles_dir: f\ntemplate_schema_version: 1",
        "memory: {backend: x}\nescalation: [a]\nschedules: [{name: n}]\nrecommended_env: [{any_of: [A, B]}]",
    ],
)
def test_keys_that_belong_to_others_are_not_worth_a_word(tmp_path: Path, text: str) -> None:
    assert check(tmp_path, text, strict=True) == ()


def test_a_thousand_unknown_keys_are_not_a_thousand_findings(tmp_path: Path) -> None:
    assert len(check(tmp_path, "".join(f"key{number}zz: 1\n" for number in range(1000)))) == 100


# --- YAML itself -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "place", "word"),
    [
        ("name: x\nname: y\n", "duplicate-key", (2, 1), "first given in line 1"),
        ("a2a:\n  port: 1\n  'port': 2\n", "duplicate-key", (3, 3), "line 2"),
        ("a2a:\n\tport: 1\n", "syntax", (2, 1), "spaces"),
        ("name: a: b\n", "syntax", (1, 8), "quotes"),
        ("name: @x\n", "syntax", (1, 7), "quotes"),
        ("name: *x\n", "syntax", (1, 7), "*"),
        ("a: 1\n---\nb: 2\n", "syntax", (2, 1), "one document"),
        ("a2a: [", "syntax", (1, 7), "YAML"),
        ("- a\n- b\n", "not-a-mapping", (1, 1), "a list"),
        ("just text", "not-a-mapping", (1, 1), "one value"),
        ("name: !include x.yaml\n", "bad-tag", (1, 7), "!include"),
        ("name: !!python/object:os.system x\n", "bad-tag", (1, 7), "tag"),
        ("tier: !!int x\n", "bad-tag", (1, 7), "!!int"),
        ("? [a, b]\n: c\n", "bad-key", (1, 3), "key"),
        ("name: \"\\ud800\"\n", "bad-text", (1, 7), "surrogate"),
        ("name: \"\\U99999999\"\n", "syntax", None, "YAML"),
        ("name: \x07\n", "syntax", (1, 7), "0x7"),
        ("x-a: &a [*a]\n", "cycle", (1, 6), "alias"),
        ("x-a: &a\n  <<: *a\n", "cycle", (2, 3), "merges"),
        ("a2a:\n  <<: [1]\n", "bad-merge", (2, 3), "mapping"),
        ("x: " + "[" * 60 + "]" * 60, "too-deep", None, "50"),
        ("x: " + "[" * 20000, "too-deep", None, "50"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_yaml_is_said_with_its_place(
    tmp_path: Path, text: str, code: str, place: tuple[int, int] | None, word: str
) -> None:
    found = [finding for finding in check(tmp_path, text) if finding.severity == "error"]
    assert [finding.code for finding in found] == [code]
    assert word in str(found[0])
    if place is not None:
        assert (found[0].line, found[0].column) == place


@pytest.mark.parametrize(
    ("data", "code", "place"),
    [
        (b"name: caf\xe9\n", "encoding", (1, 10)),
        ("name: x".encode("utf-16"), "encoding", (1, 1)),
        (b"name: x\n" + b"#" * 300_000, "too-large", (None, None)),
    ],
)
def test_bytes_that_are_no_text_are_said_with_their_place(
    tmp_path: Path, data: bytes, code: str, place: tuple[int | None, int | None]
) -> None:
    (found,) = check(tmp_path, data)
    assert (found.code, (found.line, found.column)) == (code, place)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    assert check(tmp_path, b"\xef\xbb\xbfname: x\r\ntier: 2\r\n") == ()
    config = load(tmp_path, {}).config
    assert config is not None
    assert (config.name, config.tier) == ("x", 2)


def test_anchors_aliases_and_merge_keys_work(tmp_path: Path) -> None:
    text = """\
x-base: &base {retry_attempts: 9, timeout: 7}
x-more: &more {retry_delay: 1, timeout: 8}
delegation:
  <<: [*base, *more]
  retry_attempts: 2
tools: &names [a, b]
skills: *names
"""
    assert check(tmp_path, text) == ()
    config = load(tmp_path, {}).config
    assert config is not None
    block = config.delegation
    assert (block.retry_attempts, block.timeout, block.retry_delay) == (2, 7, 1)
    assert config.skills == config.tools == ("a", "b")


def test_aliases_that_multiply_are_refused_and_not_expanded(tmp_path: Path) -> None:
    lines = ["x-0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (found,) = check(tmp_path, "\n".join(lines))
    assert found.code == "too-large"


def test_a_wrong_value_behind_an_alias_is_placed_where_it_is_written(tmp_path: Path) -> None:
    found = check(tmp_path, "x-d: &d {timeout: -1}\ndelegation: {<<: *d}\n")
    assert [(finding.key, finding.line, finding.column) for finding in found] == [("delegation.timeout", 1, 19)]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.yaml"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    (found,) = load(tmp_path, {}).findings
    assert found.code == "unreadable"
    assert "cannot be read" in str(found)


# --- secrets ---------------------------------------------------------------------------------------------------------------

SECRETS = [
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",  # secret-scan: allow, made up
    "sk-ant-api03-abcdefghijklmnopqrstuvwxyz",  # secret-scan: allow, made up
    "AKIAABCDEFGHIJKLMNOP",  # secret-scan: allow, made up
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcdefghijkl",  # secret-scan: allow, made up
    "Zq7xK2mP9vL4nR8tW3yB6cD1",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text",
    [
        "tier: {}",
        "a2a: {{port: '{}'}}",
        "env: {{required: ['{} ']}}",
        "mcp_servers: [{{name: x, env: {{API: [{}]}}}}]",
        "effort: {}",
        "{}: 1",
        "{}: [",
        "name: !{} x",
        "name: *{}",
        "name: x: {}",
        "a2a: '{}'",
        "skills: ['{}/..']",
    ],
)
def test_no_finding_repeats_a_secret(tmp_path: Path, text: str, secret: str) -> None:
    found = check(tmp_path, text.format(secret))
    assert found
    assert all(secret not in str(finding) and secret not in str(finding.to_dict()) for finding in found)


@pytest.mark.parametrize("key", ["api_key", "password", "auth_token", "secret"])
def test_a_value_below_a_key_that_sounds_secret_is_never_shown(tmp_path: Path, key: str) -> None:
    found = check(tmp_path, f"mcp_servers: [{{name: n, command: c, env: {{{key}: [hunter2]}}}}]")
    assert found
    assert "hunter2" not in str(found)


def test_a_secret_in_a_variable_is_not_repeated(tmp_path: Path) -> None:
    found = check(tmp_path, "", SANDBOX_TIMEOUT=SECRETS[0], LOG_LEVEL=SECRETS[4])
    assert len(found) == 2
    assert all(secret not in str(finding) for finding in found for secret in SECRETS)


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    (found,) = check(tmp_path, f"tier: {'word ' * 2000}")
    assert len(str(found)) < 400


def test_a_file_full_of_mistakes_has_a_bounded_report(tmp_path: Path) -> None:
    assert len(check(tmp_path, "a:\n" * 1000)) == 200
