"""Arbitrary input to everything that reads what others wrote: no crash but the documented error, no secret in any message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molecule_runtime.core import envelope, targets, untrusted
from molecule_runtime.core.bearer import bearer_matches, bearer_of
from molecule_runtime.core.errors import ConfigurationError, InvalidWorkspaceIdError, TargetError
from molecule_runtime.core.identity import (
    MAX_NAME_LENGTH,
    display_name,
    origin_of,
    validate_platform_url,
    validate_workspace_id,
)
from molecule_runtime.core.redaction import redact, redact_text

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

SECRET = "q3Jx8vN2kT7wZ1bC5mR9yL4dF6hG0sPaVeXuOiKtWnE"  # noqa: S105 - made up, and looked for in every message

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
env_text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
keys = st.sampled_from(["id", "token", "token_file", "platform_url", "plaform_url", "name", ""])
entry = (
    st.dictionaries(
        keys, st.sampled_from([SECRET, f"{SECRET} {SECRET}", "ws-1", "https://a.example", ""]) | scalars, max_size=5
    )
    | json_values
)


def targets_or_errors(environ: dict[str, str]) -> list[targets.WorkspaceTarget] | TargetError:
    try:
        return targets.resolve_targets(environ)
    except TargetError as exc:
        return exc


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.lists(entry, max_size=4).map(json.dumps) | env_text)
def test_any_array_of_workspaces_gives_targets_or_errors_and_shows_no_token(value: str, tmp_path: Path) -> None:
    environ = {"MOLECULE_WORKSPACES": value, "HOME": str(tmp_path), "PLATFORM_URL": "https://default.example"}
    workspaces, errors = targets.resolve_workspaces(environ)
    assert not (workspaces and errors)
    if value.strip():
        assert workspaces or errors
    for error in errors:
        assert SECRET not in error
    resolved = targets_or_errors(environ)
    assert SECRET not in repr(resolved)
    if isinstance(resolved, list):
        assert [target.id for target in resolved] == [workspace[0] for workspace in workspaces]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(identifier=env_text, token=env_text | st.just(SECRET), url=env_text)
def test_any_single_workspace_environment_gives_a_target_or_errors(
    identifier: str, token: str, url: str, tmp_path: Path
) -> None:
    environ = {
        "WORKSPACE_ID": identifier,
        "MOLECULE_WORKSPACE_TOKEN": token,
        "PLATFORM_URL": url,
        "HOME": str(tmp_path),
    }
    resolved = targets_or_errors(environ)
    assert SECRET not in repr(resolved)
    if isinstance(resolved, list):
        (target,) = resolved
        assert validate_workspace_id(target.id) == target.id
        assert origin_of(target.platform_url).startswith(("http://", "https://"))


@given(st.text())
def test_an_id_that_passes_is_safe_in_a_path_and_a_header(value: str) -> None:
    try:
        identifier = validate_workspace_id(value)
    except InvalidWorkspaceIdError:
        return
    assert identifier == value.strip()
    assert identifier.isascii()
    assert not set(identifier) - set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 1 <= len(identifier) <= 128


@given(st.text() | st.from_regex(r"https?://[^\s]{0,20}", fullmatch=False))
def test_a_url_that_passes_has_an_origin_and_nothing_secret(value: str) -> None:
    try:
        url = validate_platform_url(value)
    except ConfigurationError:
        return
    assert "@" not in url.split("/")[2]
    assert "?" not in url
    assert "#" not in url
    assert url.startswith(origin_of(url).split("://")[0])


@given(st.text() | json_values)
def test_a_display_name_is_short_and_plain_whatever_a_peer_calls_itself(value: Any) -> None:
    shown = display_name(value)
    if shown is not None:
        assert 0 < len(shown) <= MAX_NAME_LENGTH
        assert "\n" not in shown
        assert shown == shown.strip()
        assert not set(shown.rstrip("…")) & set("[]<>{}`\"'\\|")


header_lists = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"Authorization", b"host"]),
        st.binary(max_size=40) | st.just(b"Bearer " + SECRET.encode()),
    ),
    max_size=3,
)


@given(headers=header_lists, expected=st.none() | st.text(max_size=40) | st.just(SECRET))
def test_any_headers_are_compared_without_raising(headers: list[tuple[bytes, bytes]], expected: str | None) -> None:
    try:
        wanted = expected.encode() if expected else None
    except UnicodeEncodeError:
        return
    assert bearer_matches(expected, headers) is (wanted is not None and bearer_of(headers) == wanted)


@given(st.text())
def test_redaction_is_idempotent_and_counts_what_it_changed(text: str) -> None:
    once = redact(text)
    assert redact_text(once.text) == once.text
    assert bool(once.counts) is (once.text != text)


@given(
    before=st.text(max_size=30),
    after=st.text(max_size=30),
    secret=st.sampled_from(
        [
            "ghp_" + SECRET,
            "github_pat_" + SECRET,
            "sk-" + SECRET,
            "AKIAIOSFODNN7EXAMPLE",  # secret-scan: allow, made up
            "xoxb-" + SECRET,
            "Bearer " + SECRET,
            f"API_TOKEN={SECRET}",
            f'"auth_token": "{SECRET}"',  # secret-scan: allow, made up
            f"postgres://user:{SECRET}@db/x",  # secret-scan: allow, made up
        ]
    ),
)
def test_a_credential_is_found_between_any_texts(before: str, after: str, secret: str) -> None:
    assert SECRET not in redact_text(f"{before} {secret} {after}")


@given(content=st.text(), name=st.text(max_size=30), around=st.text(max_size=30))
def test_a_boundary_gives_back_exactly_what_was_put_in(content: str, name: str, around: str) -> None:
    wrapped = untrusted.wrap(content, source="peer", name=name)
    (block,) = (
        untrusted.parse(f"ours\n{wrapped}\n{around}") if "<untrusted-" not in around else untrusted.parse(wrapped)
    )
    assert block == untrusted.Untrusted(content, {"source": "peer", "name": name})


@given(contents=st.lists(st.text(), max_size=4))
def test_blocks_inside_blocks_stay_data(contents: list[str]) -> None:
    inner = "\n".join(untrusted.wrap(content, source="peer") for content in contents)
    (block,) = untrusted.parse(untrusted.wrap(inner, source="file"))
    assert block.content == inner


@given(st.text())
def test_parsing_any_text_never_raises(text: str) -> None:
    untrusted.parse(text)
    untrusted.parse(f"<untrusted-0123456789abcdef {text}>\n{text}\n</untrusted-0123456789abcdef>")


@given(json_values)
def test_any_answer_and_any_message_are_read_without_raising(body: Any) -> None:
    for shape in (
        body,
        {"result": body},
        {"error": body},
        {"result": {"status": body, "artifacts": body, "parts": body}},
        {"params": {"message": body}},
    ):
        answer = envelope.read_answer(shape)
        assert isinstance(answer, (envelope.Reply, envelope.Accepted, envelope.Failure))
        assert isinstance(envelope.read_message(shape).text, str)


@given(text=st.text(), context=st.text(max_size=10), size=st.integers(min_value=0, max_value=2**40))
def test_what_we_build_we_read(text: str, context: str, size: int) -> None:
    file = envelope.File(uri="workspace:/workspace/a.txt", name="a.txt", mime_type="text/plain", size=size)
    request = envelope.message_send(text, context_id=context, files=[file], metadata={"source_workspace_id": "ws-1"})
    read = envelope.read_message(json.loads(json.dumps(request)))
    assert (read.text, read.files, read.metadata) == (text, (file,), {"source_workspace_id": "ws-1"})
