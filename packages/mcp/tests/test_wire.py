"""The client's lines, however they come in."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.mcp.wire import Intake, Line, Splitter, Wire

if TYPE_CHECKING:
    from collections.abc import Generator

SECONDS = 30


@pytest.fixture
def pipe() -> Generator[tuple[Wire, int]]:
    """A wire, and the descriptor into which its client writes."""
    reading, client = os.pipe()
    sink = os.open(os.devnull, os.O_WRONLY)
    yield Wire(reading, sink), client
    # The reading end stays with the thread that may still read it.
    os.close(sink)


def test_lines_are_whole_however_they_were_cut() -> None:
    text = b"one\n\nt\xc3\xa9o\r\nlast"
    for size in range(1, len(text) + 1):
        splitter = Splitter()
        lines = [line for at in range(0, len(text), size) for line in splitter.feed(text[at : at + size])]
        assert [*lines, *splitter.end()] == [b"one", b"", b"t\xc3\xa9o\r", b"last"]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_line_over_the_limit_is_skipped_to_its_end_and_the_next_one_counts(size: int) -> None:
    splitter = Splitter(limit=5)
    text = b"12345\n" + b"x" * 40 + b"\nafter\n" + b"y" * 6
    lines = [line for at in range(0, len(text), size) for line in splitter.feed(text[at : at + size])]
    lines += splitter.end()
    assert [line if isinstance(line, bytes) else "too long" for line in lines] == [
        b"12345",
        "too long",
        b"after",
        "too long",
    ]


def test_what_is_not_dealt_with_first_waits_and_so_does_all_that_follows(pipe: tuple[Wire, int]) -> None:
    wire, client = pipe
    seen: list[bytes] = []

    def first(line: bytes) -> bool:
        seen.append(line)
        return line.startswith(b"mine")

    ends: list[bool] = []
    intake = Intake(wire, first=first, ended=ends.append)
    os.write(client, b"mine 1\nmine 2\nother\nmine 3\n")
    intake.start()
    assert intake.wait_for_line(SECONDS)
    os.close(client)
    lines: list[Line] = []
    ended = False
    arrived = threading.Event()
    intake.attach(arrived.set)
    while not ended:
        assert arrived.wait(SECONDS)
        arrived.clear()
        more, ended = intake.take()
        lines += more
    assert seen == [b"mine 1", b"mine 2", b"other"]
    assert lines == [b"other", b"mine 3"]


def test_a_last_line_without_its_newline_counts(pipe: tuple[Wire, int]) -> None:
    wire, client = pipe
    intake = Intake(wire)
    os.write(client, b"whole\nhalf")
    os.close(client)
    intake.start()
    arrived = threading.Event()
    intake.attach(arrived.set)
    lines: list[Line] = []
    ended = False
    while not ended:
        assert arrived.wait(SECONDS)
        arrived.clear()
        more, ended = intake.take()
        lines += more
    assert lines == [b"whole", b"half"]


def test_who_takes_over_reads_on_where_the_thread_left(pipe: tuple[Wire, int]) -> None:
    wire, client = pipe
    intake = Intake(wire)
    intake.start()
    arrived = threading.Event()

    def wake() -> None:
        if intake.has_left:
            arrived.set()

    intake.attach(wake, take_over=True)
    os.write(client, b"one\ntw")
    assert arrived.wait(SECONDS)
    assert intake.take() == ([b"one"], False)
    os.write(client, b"o\nthr")
    assert intake.read()
    assert intake.take() == ([b"two"], False)
    os.close(client)
    assert not intake.read()
    assert intake.take() == ([b"thr"], True)


def test_lines_of_several_threads_never_mix() -> None:
    reading, writing = os.pipe()
    wire = Wire(os.open(os.devnull, os.O_RDONLY), writing)
    letters = "abcd"
    # Far more than a pipe takes at once.
    threads = [threading.Thread(target=wire.write_line, args=(letter.encode() * 300_000,)) for letter in letters]
    for thread in threads:
        thread.start()
    with closing(os.fdopen(reading, "rb")) as client:
        lines = sorted(client.readline() for _ in threads)
    for thread in threads:
        thread.join(SECONDS)
    assert lines == [letter.encode() * 300_000 + b"\n" for letter in letters]
    os.close(writing)
