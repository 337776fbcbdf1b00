"""A CSV file in memory: its columns with their units and types, and its rows."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_COLUMNS = 200

DEFAULT_SOURCE = (
    "NASA Planetary Fact Sheet, https://nssdc.gsfc.nasa.gov/planetary/factsheet/, public domain, checked 2026-11"
)

FILLERS = {"from", "of", "the", "a", "an", "in", "per", "and", "to"}
_UNITS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("kg", "m3"), "kg/m³"),
    (("g", "cm3"), "g/cm³"),
    (("m", "s2"), "m/s²"),
    (("km", "s"), "km/s"),
    (("km", "h"), "km/h"),
    (("m", "s"), "m/s"),
    (("km",), "km"),
    (("cm",), "cm"),
    (("mm",), "mm"),
    (("m",), "m"),
    (("kg",), "kg"),
    (("seconds",), "s"),
    (("minutes",), "minutes"),
    (("hours",), "hours"),
    (("days",), "days"),
    (("years",), "years"),
    (("percent",), "%"),
    (("pct",), "%"),
    (("usd",), "USD"),
    (("eur",), "EUR"),
)
_DEGREES = {"c": "°C", "f": "°F", "k": "K"}
_SCALES = {3: "thousand", 6: "million", 9: "billion"}
_SCALED = re.compile(r"1e(\d{1,2})([a-z]+)")
_BRACKETED = re.compile(r"^(.*?)\s*[(\[]([^)\]]+)[)\]]\s*$")
_SPLIT = re.compile(r"[^a-z0-9]+|(?<=[a-z])(?=\d)")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in the file, its words and its unit, and whether it holds numbers."""

    index: int
    header: str
    words: tuple[str, ...]
    unit: str
    numeric: bool

    @property
    def label(self) -> str:
        """The name for people, without the unit."""
        return " ".join(self.words) or self.header

    @property
    def described(self) -> str:
        """The name with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def named_first(self, words: Sequence[str]) -> bool:
        """Tell whether words begin with the whole name."""
        return bool(self.words) and tuple(words[: len(self.words)]) == self.words

    def quantity(self, shown: str) -> str:
        """Return a value with its unit."""
        return f"{shown} {self.unit}" if self.unit else shown


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file in memory; every row has as many cells as there are columns."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    source: str = ""

    @property
    def key(self) -> Column | None:
        """The first column of text, which names the rows."""
        return next((column for column in self.columns if not column.numeric), None)

    @property
    def noun(self) -> str:
        """What one row is."""
        return self.key.label if self.key else "row"

    def row_name(self, row: tuple[str, ...]) -> str:
        """Return the name of a row."""
        return row[self.key.index] if self.key else f"row {self.rows.index(row) + 1}"

    def number(self, row: tuple[str, ...], column: Column) -> float | None:
        """Return a cell as a number, or None when it is empty."""
        return number_of(row[column.index])

    def columns_shown(self) -> str:
        """List the columns for people."""
        return ", ".join(column.described for column in self.columns)

    def tags(self) -> list[str]:
        """Return the words by which another agent finds this one."""
        tags = ["table", "csv", "data", *words_of(self.noun)]
        tags += [word for column in self.columns for word in column.words if word not in FILLERS]
        if self.key is not None:
            tags += [row[self.key.index].lower() for row in self.rows[:20] if row[self.key.index]]
        return list(dict.fromkeys(tags))

    def examples(self) -> list[str]:
        """Return questions that this table answers."""
        numbers = [column for column in self.columns if column.numeric]
        if not numbers or not self.rows:
            return [f"How many {plural(self.noun)} are there?"]
        first, last = numbers[0], numbers[-1]
        return [
            f"Which {self.noun} has the largest {first.label}?",
            f"What is the {last.label} of {self.row_name(self.rows[0])}?",
            f"What is the average {last.label}?",
            f"Top 3 {plural(self.noun)} by {first.label}",
            f"How many {plural(self.noun)} have a {first.label} above {self.rows[0][first.index]}?",
        ]


def default_table() -> Table:
    """Read the table of the planets that comes with the package."""
    text = (resources.files("molecule_runtime.a2a.examples") / "data" / "planets.csv").read_text(encoding="utf-8")
    return parse_table("planets.csv", text, source=DEFAULT_SOURCE)


def read_file(path: Path) -> Table:
    """Read a CSV file.

    Raises:
        RuntimeError: it cannot be read, is too large, or is not a table.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise RuntimeError(f"runtime_config.csv {str(path)!r} cannot be read: {exc.strerror or exc}") from None
    if len(data) > MAX_FILE_BYTES:
        raise RuntimeError(f"runtime_config.csv {str(path)!r} is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB")
    try:
        return parse_table(path.name, data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise RuntimeError(f"runtime_config.csv {str(path)!r} is not UTF-8 text") from None


def parse_table(name: str, text: str, *, source: str = "") -> Table:
    """Parse CSV text with a header line; the separator and the types are worked out.

    Raises:
        RuntimeError: there is no header or no row.
    """
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:4096], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        lines = [row for row in csv.reader(io.StringIO(text), dialect) if any(cell.strip() for cell in row)]
    except csv.Error as exc:
        raise RuntimeError(f"{name} is not a CSV file: {exc}") from None
    if len(lines) < 2:
        raise RuntimeError(f"{name} needs a header line and at least one row")
    header = [cell.strip() for cell in lines[0]]
    if len(header) > MAX_COLUMNS:
        raise RuntimeError(f"{name} has {len(header)} columns; {MAX_COLUMNS} are the most that can be read")
    rows = tuple(tuple(cell.strip() for cell in [*row, *[""] * len(header)][: len(header)]) for row in lines[1:])
    columns = tuple(_column(index, title, [row[index] for row in rows]) for index, title in enumerate(header))
    return Table(name, columns, rows, source)


def _column(index: int, header: str, cells: Sequence[str]) -> Column:
    filled = [cell for cell in cells if cell]
    numeric = bool(filled) and all(number_of(cell) is not None for cell in filled)
    title, unit = header, ""
    if bracketed := _BRACKETED.match(header):
        title, unit = bracketed[1], bracketed[2].strip()
    words = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", title).lower()) if word]
    if numeric and not unit:
        words, unit = _split_unit(words)
    return Column(index, header, tuple(words), unit, numeric)


def _split_unit(words: list[str]) -> tuple[list[str], str]:
    if len(words) < 2:
        return words, ""
    if scaled := _SCALED.fullmatch(words[-1]):
        power = int(scaled[1])
        return words[:-1], f"{_SCALES.get(power, f'×10^{power}')} {scaled[2]}"  # noqa: RUF001 - the sign of a product
    if words[-1] in _DEGREES and any(word.startswith("temp") for word in words):
        return words[:-1], _DEGREES[words[-1]]
    for ending, unit in _UNITS:
        if len(words) > len(ending) and tuple(words[-len(ending) :]) == ending:
            return words[: -len(ending)], unit
    return words, ""


def number_of(cell: str) -> float | None:
    """Read a cell as a number, or None when it is none."""
    text = cell.replace(" ", "")
    if re.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        text = text.replace(",", "")
    if not re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?", text):
        return None
    return float(text)


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())


def plural(noun: str) -> str:
    """Return the plural of a regular noun."""
    if noun.endswith("s"):
        return noun
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
