"""The grammar of the table's questions: fixed and small. What does not fit is refused with what can be asked."""

from __future__ import annotations

import operator
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molecule_runtime.a2a.examples.csv_table import FILLERS, Column, Table, plural, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_LISTED = 50
MAX_QUESTION_CHARS = 2000

_CALCULATIONS = {"mean", "average", "median", "total", "sum"}
_AGGREGATE_WORDS = _CALCULATIONS | {"max", "min", "maximum", "minimum", "number", "count"}

_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "size": ("diameter", "radius", "size", "area"),
    "wide": ("diameter", "width"),
    "weight": ("mass", "weight"),
    "weigh": ("mass", "weight"),
    "temp": ("temperature",),
    "far": ("distance",),
    "near": ("distance",),
    "close": ("distance",),
    "away": ("distance",),
    "year": ("orbital", "period", "year"),
    "orbit": ("orbital",),
    "speed": ("velocity", "speed"),
    "hot": ("temperature",),
    "cold": ("temperature",),
    "warm": ("temperature",),
    "heavy": ("mass", "weight"),
    "light": ("mass", "weight"),
    "massive": ("mass",),
    "dense": ("density",),
    "old": ("age",),
    "young": ("age",),
    "expensive": ("price", "cost"),
    "cheap": ("price", "cost"),
    "fast": ("velocity", "speed"),
    "slow": ("velocity", "speed"),
    "tall": ("height",),
    "populous": ("population",),
}
"""Words that people use for what a column may be called."""

_SIZE = ("diameter", "size", "radius", "area", "population")
"""What "the largest" means where no column is named, first choice first."""

_UP = {
    "large", "big", "high", "great", "max", "maximum", "most", "top", "long", "hot", "warm", "heavy", "massive", "far", "dense",
    "fast", "old", "expensive", "tall", "wide", "strong", "populous",
}  # fmt: skip
_DOWN = {
    "small", "little", "low", "least", "few", "min", "minimum", "bottom", "short", "cold", "cool", "light", "near", "close", "slow",
    "young", "cheap", "weak", "narrow",
}  # fmt: skip
_SUPERLATIVES = {"most", "least", "max", "maximum", "min", "minimum", "top", "bottom"}
_IRREGULAR = {
    "furthest": "far", "farthest": "far", "further": "far", "farther": "far", "heaviest": "heavy", "heavier": "heavy",
    "hottest": "hot", "hotter": "hot", "biggest": "big", "bigger": "big", "densest": "dense", "denser": "dense",
    "largest": "large", "larger": "large", "closest": "close", "closer": "close", "fewest": "few", "fewer": "few",
    "more": "most", "less": "least", "widest": "wide", "wider": "wide",
}  # fmt: skip

_COUNTS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
}  # fmt: skip
_ORDINALS = {
    "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4, "fifth": 5, "5th": 5, "sixth": 6, "6th": 6,
    "seventh": 7, "7th": 7, "eighth": 8, "8th": 8,
}  # fmt: skip
_MULTIPLIERS = {"thousand": 1e3, "million": 1e6, "billion": 1e9}

_NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d{1,3})?"
_SCALE = r"thousand|million|billion"
_BETWEEN = (
    rf"\bbetween\s+(?P<low>{_NUMBER})(?:\s*(?P<lowscale>{_SCALE})\b)?"
    rf"\s+and\s+(?P<high>{_NUMBER})(?:\s*(?P<highscale>{_SCALE})\b)?"
)
_OPERATORS: tuple[tuple[str, str], ...] = (
    (r">=|≥|\bat least\b|\bno less than\b|\bnot less than\b", ">="),
    (r"<=|≤|\bat most\b|\bup to\b|\bno more than\b|\bnot more than\b", "<="),
    (r">|\babove\b|\bover\b|\bexceed(?:s|ing)?\b|\bgreater than\b|\bmore than\b", ">"),
    (r"<|\bbelow\b|\bunder\b|\bless than\b|\bfewer than\b", "<"),
    (r"=|\bequals?(?: to)?\b|\bexactly\b", "="),
)
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_IN_WORDS = {">=": "at least", "<=": "at most", ">": "above", "<": "below", "=": "equal to"}
_NEGATION = re.compile(r"\b(?:not|no|without|except|excluding|other than|neither|nor)\b|n't\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Filter:
    """`column` compared with a number."""

    column: Column
    symbol: str
    value: float
    shown: str

    def admits(self, table: Table, row: tuple[str, ...]) -> bool:
        """Tell whether a row passes; an empty cell never does."""
        number = table.number(row, self.column)
        return number is not None and _COMPARE[self.symbol](number, self.value)

    @property
    def described(self) -> str:
        """The condition for people."""
        return f"{self.column.label} {_IN_WORDS[self.symbol]} {self.column.quantity(self.shown)}"


def answer(table: Table, question: str) -> str:
    """Answer a question over a table, or say what can be asked."""
    text = " ".join(question[:MAX_QUESTION_CHARS].split())
    return _Question(table, text).answer()


class _Question:
    """One question, read step by step: each step takes its words away, and what is left must be understood or is refused."""

    def __init__(self, table: Table, text: str) -> None:
        self.table = table
        self.text = text
        self.lowered = text.lower().replace("−", "-")  # noqa: RUF001 - what people type
        self.named = self._named_rows()
        self.problem = ""
        self.measures: list[tuple[str, ...]] = []
        self.filters, rest = self._filters(self.lowered)
        self.stems = [_stem(word) for word in words_of(rest)]
        self.words = words_of(rest)
        self.operators = _without_column_names(table, self.words)
        self.selected = [row for row in table.rows if all(item.admits(table, row) for item in self.filters)]
        self.selected, self.conditions = self._text_filters(self.selected, rest)
        self.problem = self.problem or self._stray_number(rest)

    def answer(self) -> str:
        if self.problem:
            return self._help(self.problem)
        if self._asks_about_table():
            return self._about()
        if _NEGATION.search(_without_operators(self.lowered)):
            return self._help("I cannot answer a question with a negation")
        for attempt in (
            self._comparison,
            self._aggregate,
            self._ranking,
            self._lookup,
            self._count,
            self._listing,
        ):
            said = attempt()
            if said is not None:
                return said
        return self._help("I cannot tell what is asked")

    # --- what is asked ---

    def _asks_about_table(self) -> bool:
        phrases = ("what do you know", "what can you", "what can i ask", "help", "what data", "describe the table")
        words = set(self.words)
        return (
            any(phrase in self.lowered for phrase in phrases)
            or bool(words & {"column", "columns", "fields", "headers"})
            or self.lowered.strip(" ?.!") in {"rows", "hello", "hi"}
        )

    def _about(self) -> str:
        table = self.table
        names = [table.row_name(row) for row in table.rows[:MAX_LISTED]]
        more = ", …" if len(table.rows) > MAX_LISTED else ""
        return (
            f"{table.name} has {len(table.rows)} rows and {len(table.columns)} columns.\n"
            f"Columns: {table.columns_shown()}.\n{plural(table.noun).capitalize()}: {', '.join(names)}{more}.\n"
            f"You can ask, for example: {' '.join(table.examples())}"
        )

    def _comparison(self) -> str | None:
        """Answer "is Earth heavier than Mars?"."""
        if not self.filters or not self.named:
            return None
        lines: list[str] = []
        for row in self.named:
            holds = all(item.admits(self.table, row) for item in self.filters)
            facts = [f"its {item.column.label} is {self._cell(row, item.column)}" for item in self.filters]
            conditions = [f"{_IN_WORDS[item.symbol]} {item.column.quantity(item.shown)}" for item in self.filters]
            lines.append(
                f"{self.table.row_name(row)}: {'yes' if holds else 'no'}, {_join(facts)}"
                f" ({'' if holds else 'not '}{' and '.join(conditions)})."
            )
        return "\n".join(lines)

    def _aggregate(self) -> str | None:
        words = set(self.operators)
        functions: list[tuple[str, Callable[[list[float]], float]]] = []
        if words & {"average", "mean"}:
            functions.append(("average", statistics.fmean))
        if "median" in words:
            functions.append(("median", statistics.median))
        if words & {"sum", "total"}:
            functions.append(("total", sum))
        column = self._column()
        if len(self.named) == 1 or not functions:
            return None
        superlative = self._superlative()
        if superlative is not None:
            calculation = next(i for i, word in enumerate(self.operators) if word in _CALCULATIONS)
            if calculation < superlative[0]:
                return self._help("I cannot calculate over a ranking")
            # "The highest average temperature" is one row's.
            return None
        if column is None and len(self.filters) == 1:
            column = self.filters[0].column
        if column is None:
            return self._help("I cannot tell which column to calculate with")
        rows = self.named or self.selected
        numbers = [number for row in rows if (number := self.table.number(row, column)) is not None]
        if not numbers:
            return self._nothing()
        scope = self._scope(len(numbers))
        return "\n".join(
            f"The {name} {_without(column, name)} of {scope} is {column.quantity(_shown(function(numbers)))}."
            for name, function in functions
        )

    def _ranking(self) -> str | None:
        direction = self._direction()
        if direction is None:
            return None
        column = self._ranked_column() or self._column() or self._size_column(self.words)
        if column is None and len(self.filters) == 1:
            column = self.filters[0].column
        if column is None:
            return self._help("I cannot tell by which column to rank")
        rows = self.named if len(self.named) > 1 else self.selected
        ranked = sorted(
            (row for row in rows if self.table.number(row, column) is not None),
            key=lambda row: self.table.number(row, column) or 0.0,
            reverse=direction == "largest",
        )
        if not ranked:
            return self._nothing()
        place = next((_ORDINALS[word] for word in self.words if word in _ORDINALS), 0)
        if place:
            if place > len(ranked):
                return f"There are only {len(ranked)} {plural(self.table.noun)} to rank."
            row = ranked[place - 1]
            ordinal = next(word for word in self.words if word in _ORDINALS)
            return (
                f"{self.table.row_name(row)} has the {ordinal} {direction} {column.label}: {self._cell(row, column)}."
            )
        count = self._top_count()
        if count > 1:
            listed = ranked[: min(count, MAX_LISTED)]
            lines = [
                f"{index}. {self.table.row_name(row)}: {self._cell(row, column)}"
                for index, row in enumerate(listed, start=1)
            ]
            return "\n".join(
                [
                    f"The {len(listed)} {plural(self.table.noun)} with the {direction} {column.label}{self._where()}:",
                    *lines,
                ]
            )
        best = self.table.number(ranked[0], column)
        equal = [row for row in ranked if self.table.number(row, column) == best]
        names = _join([self.table.row_name(row) for row in equal])
        verb = "have" if len(equal) > 1 else "has"
        return f"{names} {verb} the {direction} {column.label}{self._where()}: {self._cell(ranked[0], column)}."

    def _lookup(self) -> str | None:
        if not self.named or self.filters:
            return None
        columns = self._columns()
        if not columns:
            lines: list[str] = []
            for row in self.named:
                cells = [
                    f"{column.label} {self._cell(row, column)}"
                    for column in self.table.columns
                    if column is not self.table.key and row[column.index]
                ]
                lines.append(f"{self.table.row_name(row)}: {', '.join(cells)}.")
            return "\n".join(lines)
        lines = []
        for row in self.named:
            for column in columns:
                if row[column.index]:
                    lines.append(f"The {column.label} of {self.table.row_name(row)} is {self._cell(row, column)}.")
                else:
                    lines.append(f"The {column.label} of {self.table.row_name(row)} is not known.")
        return "\n".join(lines)

    def _count(self) -> str | None:
        if not (re.search(r"\bhow many\b|\bnumber of\b|\bcount\b", self.lowered)):
            return None
        count = len(self.selected)
        noun = self.table.noun if count == 1 else plural(self.table.noun)
        if not self.filters and not self.conditions:
            if self._column() is not None:
                return None
            return f"There are {count} {noun}."
        names = [self.table.row_name(row) for row in self.selected[:MAX_LISTED]]
        listed = f": {', '.join(names)}{', …' if count > MAX_LISTED else ''}" if names else ""
        return f"{count} {noun}{self._where()}{listed}."

    def _listing(self) -> str | None:
        columns = self._columns()
        asked = columns[0] if len(columns) == 1 and columns[0] is not self.table.key else None
        if (self.filters or self.conditions) and not self.selected:
            return self._nothing()
        if self.conditions or (self.filters and asked in (None, *(item.column for item in self.filters))):
            column = self.filters[0].column if self.filters else self._column()
            shown = [
                f"{self.table.row_name(row)} ({self._cell(row, column)})" if column else self.table.row_name(row)
                for row in self.selected[:MAX_LISTED]
            ]
            count = len(self.selected)
            noun = self.table.noun if count == 1 else plural(self.table.noun)
            return f"{count} {noun}{self._where()}: {', '.join(shown)}{', …' if count > MAX_LISTED else ''}."
        if asked is not None:
            cells = [
                f"{self.table.row_name(row)} {self._cell(row, asked)}"
                for row in self.selected[:MAX_LISTED]
                if row[asked.index]
            ]
            more = ", …" if len(self.selected) > MAX_LISTED else ""
            return f"The {asked.label} of each {self.table.noun}{self._where()}: {', '.join(cells)}{more}."
        nouns = {_stem(word) for word in words_of(self.table.noun)} | {"row"}
        if set(self.stems) & nouns and set(self.words) & {"list", "all", "which", "what", "show", "name", "every"}:
            return self._about()
        return None

    # --- its parts ---

    def _named_rows(self) -> list[tuple[str, ...]]:
        key = self.table.key
        if key is None:
            return []
        found: list[tuple[int, tuple[str, ...]]] = []
        for row in self.table.rows:
            name = row[key.index].lower()
            # The cheap look first: a table may have a hundred thousand rows.
            if len(name) < 2 or name not in self.lowered:
                continue
            match = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", self.lowered)
            if match:
                found.append((match.start(), row))
        return [row for _, row in sorted(found, key=lambda item: item[0])]

    def _filters(self, text: str) -> tuple[list[Filter], str]:
        """Read the conditions; return them and the text without them."""
        found: list[Filter] = []
        rest: list[str] = []
        position = 0
        column: Column | None = None
        names = "|".join(re.escape(self.table.row_name(row).lower()) for row in self.named)
        operand = rf"(?:(?P<value>{_NUMBER})(?:\s*(?P<scale>{_SCALE})\b)?" + (
            rf"|(?P<row>{names})\b)" if names else ")"
        )
        symbols = "|".join(f"(?P<o{index}>{pattern})" for index, (pattern, _) in enumerate(_OPERATORS))
        comparative = r"(?P<adjective>\b\w+(?:er|ier)) than"
        pattern = re.compile(rf"(?:{_BETWEEN}|(?:{symbols}|{comparative})(?P<inner>(?:\s+[a-z]+){{0,3}}?)\s*{operand})")
        for match in pattern.finditer(text):
            before = text[position : match.start()]
            inner = match["inner"] or ""
            adjective = match["adjective"] or ""
            nearest, before = self._nearest_column(before)
            column = (
                self._best_column(words_of(inner))
                or self._best_column(words_of(adjective))
                or nearest
                or self._size_column(words_of(adjective))
                or column
            )
            if column is None or not column.numeric:
                self.problem = f"I cannot tell which column is meant by {match.group().strip()!r}"
                return [], text
            rest.append(before)
            position = match.end()
            if match["low"]:
                low = _scaled(match["low"], match["lowscale"] or match["highscale"], column)
                high = _scaled(match["high"], match["highscale"], column)
                found += [Filter(column, ">=", low, _shown(low)), Filter(column, "<=", high, _shown(high))]
                continue
            value, shown = self._operand(match, column)
            if value is None:
                self.problem = f"{shown} has no {column.label}"
                return [], text
            if adjective:
                stem = _stem(adjective)
                symbol = ">" if stem in _UP else "<" if stem in _DOWN else ""
                if not symbol:
                    self.problem = f"I do not know the comparison {adjective!r}"
                    return [], text
            else:
                symbol = next(sign for index, (_, sign) in enumerate(_OPERATORS) if match[f"o{index}"])
            found.append(Filter(column, symbol, value, shown))
        rest.append(text[position:])
        # A row that served as the measure is not what is asked about.
        self.named = [row for row in self.named if row not in self.measures]
        return found, " ".join(rest)

    def _operand(self, match: re.Match[str], column: Column) -> tuple[float | None, str]:
        name = match.groupdict().get("row")
        if name:
            row = next(row for row in self.named if self.table.row_name(row).lower() == name)
            self.measures.append(row)
            return self.table.number(row, column), row[column.index] or self.table.row_name(row)
        value = _scaled(match["value"], match["scale"], column)
        return value, _shown(value)

    def _text_filters(self, rows: list[tuple[str, ...]], text: str) -> tuple[list[tuple[str, ...]], list[str]]:
        """Keep the rows whose category is named, for example "type is rock"."""
        conditions: list[str] = []
        for column in self.table.columns:
            if column.numeric or column is self.table.key:
                continue
            values = {row[column.index].lower() for row in self.table.rows if len(row[column.index]) > 1}
            # Free text is no category.
            if not values or len(values) > max(20, len(self.table.rows) // 2):
                continue
            named = {value for value in values if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text)}
            if named:
                rows = [row for row in rows if row[column.index].lower() in named]
                conditions.append(f"{column.label} {_join(sorted(named))}")
        return rows, conditions

    def _columns(self) -> list[Column]:
        """Return every column that the question names by a word of its own."""
        words = set(self.stems) | set(self.words)
        named = [
            column
            for column in self.table.columns
            if column is not self.table.key
            and any(_matches(word, words) for word in column.words if word not in FILLERS | _AGGREGATE_WORDS)
        ]
        best = self._column()
        # Several that share a word (orbital period, orbital speed) are one question, for the best of them.
        if best is not None and len(named) > 1:
            shared = set(best.words)
            named = [column for column in named if column is best or not shared & set(column.words)]
        return named or ([best] if best is not None else [])

    def _column(self) -> Column | None:
        return self._best_column(self.words)

    def _best_column(self, words: Sequence[str]) -> Column | None:
        wanted = {word for word in (*words, *(_stem(word) for word in words)) if word not in FILLERS}
        best, best_score = None, 0.0
        for column in self.table.columns:
            if not column.numeric:
                continue
            score = 0.0
            for word in column.words:
                if word in FILLERS:
                    continue
                if _matches(word, wanted):
                    score += 0.5 if word in _AGGREGATE_WORDS else 2.0
                elif any(word in _SYNONYMS.get(item, ()) for item in wanted):
                    score += 1.5
            # Of two columns that match alike, the one with fewer other words is meant.
            score -= 0.01 * len(column.words) if score else 0.0
            if score > best_score and score > 0.6:
                best, best_score = column, score
        return best

    def _size_column(self, words: Sequence[str]) -> Column | None:
        """Return what "large" is about where no column is named."""
        if not {_stem(word) for word in words} & {"large", "big", "small", "little", "great"}:
            return None
        return next(
            (column for word in _SIZE for column in self.table.columns if column.numeric and word in column.words), None
        )

    def _nearest_column(self, text: str) -> tuple[Column | None, str]:
        """Return the column that is named last in a text, and the text before its name."""
        words = text.split()
        for size in range(1, len(words) + 1):
            column = self._best_column(words_of(" ".join(words[-size:])))
            if column is None:
                continue
            # "Escape velocity": the words around the one that was found may name a more exact column.
            wider = self._best_column(words_of(" ".join(words[-size - 2 :]))) if size + 1 <= len(words) else None
            if wider is not None and set(wider.words) >= set(words_of(" ".join(words[-size:]))) - FILLERS:
                column = wider
            start = len(words) - size
            while start and words_of(words[start - 1]) and words_of(words[start - 1])[0] in {*column.words, *FILLERS}:
                start -= 1
            return column, " ".join(words[:start])
        return None, text

    def _ranked_column(self) -> Column | None:
        """Return the column right after the superlative: in "the largest gravity below 9" that is what is ranked."""
        match = re.search(r"\b(?:\w+est|most|least|max|maximum|min|minimum)\s+((?:\w+\s*){1,3})", self.lowered)
        if not match:
            return None
        following = words_of(match[1])
        exact = [column for column in self.table.columns if column.numeric and column.named_first(following)]
        if exact:
            return max(exact, key=lambda column: len(column.words))
        return self._best_column(following[:1]) or (
            self._best_column(following) if set(following[:1]) <= _AGGREGATE_WORDS else None
        )

    def _stray_number(self, rest: str) -> str:
        """Refuse a number that no step has read: an answer that left it out would be wrong."""
        known = {word for column in self.table.columns for word in column.words}
        known |= {word for row in self.named for word in words_of(self.table.row_name(row))}
        ranked = self._top_match()
        if ranked is not None:
            known.add(ranked[1] or ranked[2])
        numbers = [word.rstrip(".,") for word in re.findall(r"(?<![\w.])\d[\d.,]*(?!\w)", rest)]
        stray = [word for word in numbers if word not in known]
        return f"I cannot tell what the number {stray[0]} is for" if stray else ""

    def _direction(self) -> str | None:
        found = self._superlative()
        return found[1] if found else None

    def _superlative(self) -> tuple[int, str] | None:
        """Return where the superlative stands among the operators, and its direction."""
        for index, word in enumerate(self.operators):
            stem = _stem(word)
            comparative = word.endswith("er") and len(self.named) > 1 and not self.filters
            if not (word in _SUPERLATIVES or ((word.endswith("est") or comparative) and stem != word)):
                continue
            if stem in _UP or word in _UP:
                return index, "largest"
            if stem in _DOWN or word in _DOWN:
                return index, "smallest"
        return None

    def _top_match(self) -> re.Match[str] | None:
        count = rf"\d{{1,3}}|{'|'.join(_COUNTS)}"
        return re.search(
            rf"\b(?:top|bottom)\s+({count})\b|\b({count})\s+(?:\w+ with the )?(?:\w+est|most|least)\b", self.lowered
        )

    def _top_count(self) -> int:
        match = self._top_match()
        if match is None:
            return 3 if re.search(r"\b(?:top|bottom)\s+[a-z]", self.lowered) else 1
        word = match[1] or match[2]
        return _COUNTS.get(word) or int(word)

    # --- the words of an answer ---

    def _cell(self, row: tuple[str, ...], column: Column) -> str:
        return column.quantity(row[column.index])

    def _where(self) -> str:
        described = [item.described for item in self.filters] + self.conditions
        return f" with {' and '.join(described)}" if described else ""

    def _scope(self, count: int) -> str:
        if self.named:
            return _join([self.table.row_name(row) for row in self.named])
        noun = self.table.noun if count == 1 else plural(self.table.noun)
        return f"the {count} {noun}{self._where()}"

    def _nothing(self) -> str:
        return f"No {self.table.noun}{self._where() or ' matches the question'}."

    def _help(self, reason: str) -> str:
        return (
            f"{reason}. {self.table.name} has these columns: {self.table.columns_shown()}.\n"
            f"You can ask, for example: {' '.join(self.table.examples())}"
        )


# --- words -----------------------------------------------------------------------------------------------------------------


def _stem(word: str) -> str:
    """Take the ending of a comparison or a plural off; good enough to match the words of this module."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    for ending in ("iest", "ier"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return f"{word[: -len(ending)]}y"
    for ending in ("est", "er"):
        base = word.removesuffix(ending)
        if base != word and (base in _UP or base in _DOWN):
            return base
        if base != word and f"{base}e" in _UP | _DOWN:
            return f"{base}e"
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def _without_column_names(table: Table, words: Sequence[str]) -> list[str]:
    """Take out the names of columns: the "mean" of a column called "mean temperature" asks for no calculation.

    A name of one word is taken out only where it stands after a superlative; elsewhere "count" and "sum" are questions.
    """
    left = list(words)
    for column in sorted(table.columns, key=lambda column: -len(column.words)):
        for start in reversed(range(len(left))):
            before = left[start - 1] if start else ""
            ranked = before.endswith("est") or before in _SUPERLATIVES
            if column.named_first(left[start:]) and (len(column.words) > 1 or ranked):
                # The gap keeps the words on its two sides from forming another name.
                left[start : start + len(column.words)] = [""]
    return left


def _matches(word: str, wanted: set[str]) -> bool:
    return word in wanted or _stem(word) in wanted


def _without_operators(text: str) -> str:
    return re.sub(r"\bnot? (?:less|more) than\b", " ", text)


def _without(column: Column, word: str) -> str:
    """Return a column's label without the calculation's own word: "average temperature", not "average mean temperature"."""
    same = {word, "mean"} if word == "average" else {word}
    words = [item for item in column.words if item not in same]
    return " ".join(words) or column.label


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _scaled(value: str, scale: str | None, column: Column) -> float:
    number = float(value.replace(",", ""))
    # "More than 500 million km" of a column in million km is 500.
    if scale and not column.unit.startswith(scale):
        number *= _MULTIPLIERS[scale]
    return number


def _shown(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
