"""Bearer credentials of inbound requests."""

from __future__ import annotations

import pytest

from molecule_runtime.core.bearer import bearer_matches, bearer_of

SECRET = "s3cret-Value_of.the~platform"  # noqa: S105 - not a secret


def headers(*values: bytes, name: bytes = b"authorization") -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((name, value) for value in values)]


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
def test_the_scheme_word_counts_in_any_case(scheme: bytes) -> None:
    assert bearer_matches(SECRET, headers(scheme + b" " + SECRET.encode()))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic " + SECRET.encode(),
        SECRET.encode(),
        b"Bearer x",
        b"Bearer " + SECRET.encode() + b"x",
        b"Bearer\t",
    ],
)
def test_anything_else_is_refused(value: bytes) -> None:
    assert not bearer_matches(SECRET, headers(value))


def test_white_space_around_the_credential_does_not_count() -> None:
    assert bearer_matches(SECRET, headers(b"  Bearer   " + SECRET.encode() + b"  "))


def test_no_header_is_no_credential() -> None:
    assert bearer_of(headers()) is None
    assert not bearer_matches(SECRET, headers())


def test_several_headers_are_no_credential() -> None:
    good = b"Bearer " + SECRET.encode()
    assert bearer_of(headers(good, good)) is None
    assert not bearer_matches(SECRET, headers(b"Bearer wrong", good))


def test_the_name_of_the_header_counts_in_any_case() -> None:
    assert bearer_matches(SECRET, headers(b"Bearer " + SECRET.encode(), name=b"Authorization"))


@pytest.mark.parametrize("expected", [None, ""])
def test_without_an_expected_secret_nobody_is_let_in(expected: str | None) -> None:
    assert not bearer_matches(expected, headers(b"Bearer "))
    assert not bearer_matches(expected, headers(b"Bearer x"))


@pytest.mark.parametrize(
    "odd",
    [bytes(range(256)), b"Bearer \xff\xfe", b"Bearer \x00", "Bearer ключ".encode(), b"Bearer " + b"a" * 1_000_000],
)
def test_odd_bytes_are_refused_and_raise_nothing(odd: bytes) -> None:
    assert not bearer_matches(SECRET, headers(odd))


def test_a_secret_beyond_ascii_is_compared_as_utf8() -> None:
    assert bearer_matches("ключ", headers("Bearer ключ".encode()))
