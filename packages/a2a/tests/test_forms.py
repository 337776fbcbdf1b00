"""Forms, read piece by piece: those that httpx writes, however they are cut, and those that are none."""

from __future__ import annotations

import itertools

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molecule_runtime.a2a.forms import End, FormError, FormReader, Part, boundary_of

BOUNDARY = b"b0undary"


def parts_of(body: bytes, cuts: list[int], boundary: bytes = BOUNDARY) -> list[tuple[Part, bytes]]:
    reader = FormReader(boundary)
    parts: list[tuple[Part, bytes]] = []
    open_part: Part | None = None
    content = b""
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(edges):
        for event in reader.feed(body[begin:end]):
            match event:
                case Part():
                    assert open_part is None
                    open_part, content = event, b""
                case End():
                    assert open_part is not None
                    parts.append((open_part, content))
                    open_part = None
                case _:
                    content += event
    reader.finish()
    return parts


CONTENTS = st.binary(max_size=200) | st.sampled_from(
    [b"", b"\r\n", b"\r\n--", b"--b0undary", b"\r\n--b0undar", b"\r\n\r\n--b0undary--", b"\r" * 50, b"-" * 50]
)


@settings(deadline=None)
@given(files=st.lists(CONTENTS, max_size=4), cuts=st.lists(st.integers(min_value=0), max_size=12))
def test_every_file_that_httpx_sends_arrives_however_its_form_is_cut(files: list[bytes], cuts: list[int]) -> None:
    # Content with the delimiter in it is for the sender to avoid, by another boundary.
    files = [content for content in files if b"\r\n--b0undary" not in content]
    request = httpx.Request(
        "POST",
        "http://agent",
        files=[("files", (f"{number} ü.bin", content, "text/plain")) for number, content in enumerate(files)]
        or {"x": (None, b"1")},
        headers={"content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}"},
    )
    parts = parts_of(request.read(), cuts, boundary_of(request.headers["content-type"]))
    if files:
        assert [content for _, content in parts] == files
        assert [(part.name, part.filename, part.content_type) for part, _ in parts] == [
            ("files", f"{number} ü.bin", "text/plain") for number in range(len(files))
        ]
    else:
        assert parts == [(Part(name="x"), b"1")]


@settings(deadline=None)
@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(min_value=0), max_size=6))
def test_what_is_no_form_is_an_error_and_nothing_else(body: bytes, cuts: list[int]) -> None:
    with pytest.raises(FormError):
        parts_of(b"--b0undary\r\n" + body.replace(b"--b0undary--", b""), cuts)


@pytest.mark.parametrize(
    ("disposition", "name", "filename"),
    [
        (b'form-data; name="files"; filename="a.txt"', "files", "a.txt"),
        (b"form-data; name=files; filename=a.txt", "files", "a.txt"),
        (b'Form-Data;name="files";filename="a \\"b\\".txt"', "files", 'a "b".txt'),
        (b'form-data; name="files"; filename="C:\\dir\\a.txt"', "files", "C:\\dir\\a.txt"),
        (b'form-data; name="files"; filename="x"; filename*=UTF-8\'\'%C3%BC.txt', "files", "ü.txt"),
        (b'form-data; name="a"', "a", None),
        (b'form-data; name="a;b"; filename=""', "a;b", ""),
    ],
)
def test_names_are_read_in_every_way_that_senders_write_them(
    disposition: bytes, name: str, filename: str | None
) -> None:
    body = (
        b"preamble\r\n--b0undary \t\r\nContent-Disposition: " + disposition + b"\r\n\r\n1\r\n--b0undary--\r\nepilogue"
    )
    assert parts_of(body, []) == [(Part(name=name, filename=filename), b"1")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b0undary",
        b"--b0undary\r\n\r\n1\r\n--b0undary--",
        b"--b0undary\r\nno header\r\n\r\n1\r\n--b0undary--",
        b'--b0undary\r\nContent-Disposition: attachment; name="a"\r\n\r\n1\r\n--b0undary--',
        b"--b0undary\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b0undary--",
        b'--b0undary\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b0undaryx--',
        b'--b0undary\r\nContent-Disposition: form-data; name="a"\r\n\r\n1',
        b'--b0undary\r\nContent-Disposition: form-data; name="a"\r\nX: ' + b"x" * 5000 + b"\r\n\r\n1\r\n--b0undary--",
        b"--b0undary" + b" " * 100 + b"\r\n",
    ],
)
def test_a_broken_form_is_refused(body: bytes) -> None:
    with pytest.raises(FormError):
        parts_of(body, [])


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/mixed; boundary=a",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="a b "',
        f"multipart/form-data; boundary={'a' * 71}",
        "multipart/form-data; boundary=ü",
    ],
)
def test_a_content_type_without_a_usable_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(FormError):
        boundary_of(content_type)
    assert boundary_of('multipart/form-data; charset=utf-8; boundary="a b:c"') == b"a b:c"
