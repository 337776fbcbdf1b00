"""The one redactor."""

import json

import pytest

from molecule_runtime.core.redaction import redact, redact_text

# Assembled from pieces, so that no scanner takes this file for a leak.
BODY = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7d"
SHORT = BODY[:20]
HEX = "0123456789abcdef" * 4
SLASHED = f"wJalrXUtnFEMI/K7MDENG/{BODY[:18]}"
PEM = f"-----BEGIN RSA PRIVATE {'KEY'}-----\n{BODY}\n{BODY}\n-----END RSA PRIVATE {'KEY'}-----"
ENCRYPTED = PEM.replace("KEY-----\na", f"KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{BODY[:32]}\n\na", 1)
TRUNCATED = PEM.partition("-----END")[0]
JWT = f"ey{'J'}hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"

SECRETS = [
    ("private_key", PEM, PEM),
    ("private_key", ENCRYPTED, ENCRYPTED),
    ("private_key", TRUNCATED, TRUNCATED),
    ("connection_string", "postgres://app:s3cr3t-pw@db.internal:5432/app", "s3cr3t-pw"),
    ("connection_string", "amqp+ssl://:hunter2!x@mq", "hunter2!x"),
    ("jwt", JWT, JWT),
    ("jwt", f"token-{JWT}".replace("token-", "token "), JWT),
    ("bearer_token", f"Authorization: Bearer {SHORT}", SHORT),
    ("bearer_token", f"authorization: bEaReR  {SHORT}", SHORT),
    ("aws_access_key", f"AK{'IA'}IOSFODNN7EXAMPLE", "IOSFODNN7EXAMPLE"),
    ("aws_access_key", f"AS{'IA'}IOSFODNN7EXAMPLE", "IOSFODNN7EXAMPLE"),
    ("github_pat_v2", f"github_{'pat'}_11ABCDEFG0_{SHORT}", SHORT),
    ("github_pat", f"gh{'p'}_{BODY[:36]}", BODY[:36]),
    ("github_pat", f"gh{'o'}_{BODY[:36]}", BODY[:36]),
    ("github_server_token", f"gh{'s'}_{BODY[:36]}", BODY[:36]),
    ("github_server_token", f"gh{'u'}_{BODY[:36]}", BODY[:36]),
    ("github_server_token", f"gh{'r'}_{BODY[:36]}", BODY[:36]),
    ("slack_token", f"xox{'b'}-123456789012-{SHORT}", SHORT),
    ("google_api_key", f"AI{'za'}SyA-{BODY[:31]}", BODY[:31]),
    ("cloudflare_token", f"cf{'ut'}_{SHORT}", SHORT),
    ("molecule_partner_key", f"mol_{'pk'}_{SHORT}", SHORT),
    ("context7_token", f"ctx7{'sk'}-{SHORT}", SHORT),
    ("openai_key", f"s{'k'}-proj-{BODY}", BODY),
    ("openai_key", f"s{'k'}-ant-api03-{BODY}", BODY),
    ("env_assignment", f"export MOLECULE_WORKSPACE_TOKEN={SHORT}", SHORT),
    ("env_assignment", f'DB_PASSWORD="{SHORT}"', SHORT),
    ("env_assignment", f"API_KEY='{SHORT}'", SHORT),
    ("env_assignment", f"APP_SECRET={SHORT}", SHORT),
    ("env_assignment", f"GCP_CREDENTIALS={SHORT}", SHORT),
    ("json_secret", json.dumps({"auth_token": SHORT}), SHORT),
    ("json_secret", json.dumps({"platform_inbound_secret": SHORT}), SHORT),
    ("json_secret", '{"Password" :  "correct horse battery"}', "correct horse battery"),  # secret-scan: allow, made up
    ("base64_blob", f"the token is {BODY}xyz", BODY),
    ("env_assignment", f"key={BODY}+/==", BODY),
    ("env_assignment", f"https://host/x?token={HEX}", HEX),
    ("env_assignment", f"apikey='{HEX}'", HEX),
    ("env_assignment", f"secret={HEX[:40]}", HEX[:40]),
    ("base64_blob", f"aws {SLASHED}", SLASHED),
]


@pytest.mark.parametrize(
    ("kind", "text", "secret"), SECRETS, ids=[f"{kind}-{i}" for i, (kind, *_) in enumerate(SECRETS)]
)
def test_every_kind_is_found_wherever_it_stands(kind: str, text: str, secret: str) -> None:
    for before, after in (("", ""), ("say ", " to me"), ("(", ")"), ("line\n", "\nline"), ("x: ", ",")):
        found = redact(before + text + after)
        assert secret not in found.text
        assert f"[REDACTED:{kind}]" in found.text
        assert found.counts.get(kind) == 1
        assert found.text.startswith(before)
        # A key whose end is missing takes the text after it along.
        assert found.text.endswith(after) or text == TRUNCATED


@pytest.mark.parametrize("text", [text for _, text, _ in SECRETS], ids=[str(index) for index in range(len(SECRETS))])
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact_text(text)
    assert redact(once).text == once
    assert redact(once).counts == {}


def test_everything_at_once_is_found_and_stays_found() -> None:
    text = "\n".join(text for _, text, _ in SECRETS)
    once = redact(text)
    assert not [secret for _, _, secret in SECRETS if secret in once.text]
    assert redact(once.text).counts == {}


def test_what_surrounds_a_secret_stays_readable() -> None:
    url = "postgres://app:s3cr3t-pw@db/app"  # secret-scan: allow, made up
    assert redact_text(url) == "postgres://app:[REDACTED:connection_string]@db/app"
    assert redact_text(f"Bearer {SHORT}") == "Bearer [REDACTED:bearer_token]"
    assert redact_text(f"A_TOKEN={SHORT}; next") == "A_TOKEN=[REDACTED:env_assignment]; next"
    assert redact_text(f'{{"token": "{SHORT}", "x": 1}}') == '{"token": "[REDACTED:json_secret]", "x": 1}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The quick brown fox; bearer of news, token of friendship, a key, a secret and a password.",
        "Set MOLECULE_WORKSPACE_TOKEN to the token, or MOLECULE_WORKSPACE_TOKEN_FILE=path",
        "TOKEN=short", "TOKEN=", "KEY=1234567", '"token": "short"', "bearer x",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b touches e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "3F2504E0-4F89-41D3-9A0C-0305E82C3301",
        "/usr/local/lib/python3.11/site-packages/molecule_runtime/core/platform/client.py",
        "/home/User1/Projects/MyApp/src/Components/Header2/index.tsx",
        "/root/.cache/uv/archive-v0/kj8f-TXTgQqIBg8E/grimp-3.19.dist-info/RECORD", "key=3f786850e387550fdab836ed7e6dc881de23001b",
        "https://acme.example.com/workspaces/3f2504e0-4f89-41d3-9a0c-0305e82c3301/activity?type=a2a_receive&limit=100",
        "https://example.com:8080/path@v2", "git@github.com:org/repo.git", "ssh://git@github.com/org/repo",
        "-" * 200, "=" * 200, "a" * 200, "A1" * 10, "molecule-ai-workspace-runtime-with-a-very-long-name-2026-07-01",
        "test_a_function_with_a_very_long_name_that_says_what_it_does_in_2_words",
        "sk-learn is a library; ask-me-anything; risk-free", "AKIA", "eyJ", "xoxo", "ghp_", "[REDACTED:jwt]",
        "2026-07-01T12:00:00.000000+00:00 INFO molecule_runtime.core.presence: workspace ws-1 is online",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----",
    ],
    ids=lambda value: repr(value)[:60],
)  # fmt: skip
def test_what_is_no_credential_is_left_alone(text: str) -> None:
    found = redact(text)
    assert found.text == text
    assert found.counts == {}


def test_each_string_is_counted_under_its_kind() -> None:
    text = f"A_TOKEN={SHORT} B_KEY={SHORT} Bearer {SHORT} {BODY}xyz"
    assert redact(text).counts == {"env_assignment": 2, "bearer_token": 1, "base64_blob": 1}


ADVERSARIAL = [
    "-eyJ", "eyJ", ".eyJ", "eyJaaaaaaaaa.", "-eyJaaaaaaaaa.eyJaaaaaaaa", "Bearer ", "bearer", "a://", "a.a.a://x:", "://",
    "aa://" + "x" * 100, "TOKEN_", "A_TOKEN", "_TOKEN=", "TOKEN=1234567 ", '"token":"', '"token" : ', '"token"    ', "sk-", "-sk-sk", "gh",
    "ghp_", "-xoxb-", "AKIA", f"-----BEGIN PRIVATE {'KEY'}-----", "-----BEGIN ", "-----", "- - - -", "Aa1", "A1b/", "Aa1" * 20 + " ", "/a",
    "=", "\u0130",
]  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ADVERSARIAL, ids=[str(index) for index in range(len(ADVERSARIAL))])
def test_half_a_megabyte_of_near_misses_is_done_in_one_pass(unit: str) -> None:
    # Work that grows with the square would take minutes.
    text = unit * (500_000 // len(unit)) + f" A_TOKEN={SHORT}"
    found = redact(text).text
    assert SHORT not in found
    assert found[-60:].partition("[REDACTED:")[2].endswith("]")
