"""An agent that computes: arithmetic in a sentence, evaluated through `ast` and never through `eval`."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from molecule_runtime.a2a.executor import ReplyExecutor, Turn

Number = int | float

MAX_CHARS = 500
MAX_DEPTH = 40
MAX_NODES = 200
MAX_BITS = 4096
"""Bits of a whole number; its decimal form then stays below Python's own limit of 4300 digits."""

MAX_SHOWN_DIGITS = 60
MAX_SHOWN_CHARS = 120


class CalculationError(ValueError):
    """What was asked cannot be computed; the message says why."""


DEFAULT_DIGITS = 12
"""Significant digits of a result that is not a whole number."""

MAX_DIGITS = 15
"""What a float holds."""


class Adapter(BaseAdapter):
    """The calculator."""

    _digits = DEFAULT_DIGITS

    @staticmethod
    def name() -> str:
        """Return the runtime key."""
        return "calculator"

    @staticmethod
    def display_name() -> str:
        """Return the name for people."""
        return "Calculator"

    @staticmethod
    def description() -> str:
        """Say what it does."""
        return "Computes arithmetic expressions: + - * / // % **, parentheses, percentages, sqrt, abs, min, max, round, sum."

    def skills(self) -> list[Any]:
        """Return the one skill."""
        return [
            {
                "id": "arithmetic",
                "name": "Arithmetic",
                "description": "Computes the arithmetic expressions in a message and shows each with its result.",
                "tags": ["arithmetic", "calculator", "math", "calculate", "compute", "percent", "number"],
                "examples": ["What is (17 * 23) + 4?", "15% of 80", "sqrt(2) * 10"],
            }
        ]

    @staticmethod
    def get_config_schema() -> dict[str, Any]:
        """Return the one setting."""
        return {
            "type": "object",
            "properties": {
                "digits": {
                    "type": "integer",
                    "description": "Significant digits of a result that is not a whole number.",
                    "minimum": 1,
                    "maximum": MAX_DIGITS,
                    "default": DEFAULT_DIGITS,
                }
            },
        }

    async def setup(self, config: AdapterConfig) -> None:
        """Take the number of digits.

        Raises:
            RuntimeError: `digits` is not a whole number from 1 to 15.
        """
        digits = config.runtime_config.get("digits", DEFAULT_DIGITS)
        if isinstance(digits, bool) or not isinstance(digits, int) or not 1 <= digits <= MAX_DIGITS:
            raise RuntimeError(
                f"runtime_config.digits must be a whole number from 1 to {MAX_DIGITS}, not {digits!r:.60}"
            )
        self._digits = digits

    async def create_executor(self, config: AdapterConfig) -> ReplyExecutor:
        """Answer each message with `answer`."""
        from molecule_runtime.a2a.executor import ReplyExecutor

        return ReplyExecutor(self.answer)

    async def answer(self, turn: Turn) -> str:
        """Compute what the message asks for."""
        return answer(turn.text, digits=self._digits)


def answer(text: str, *, digits: int = DEFAULT_DIGITS) -> str:
    """Compute every expression in a text, one line each; say what can be asked when there is none."""
    expressions = find_expressions(text)
    if not expressions:
        return (
            "There is nothing to compute in this message. Send an expression such as (17 * 23) + 4, 15% of 80 or sqrt(2);"
            " I know + - * / // % **, parentheses, sqrt, abs, min, max, round, sum, pi and e."
        )
    lines: list[str] = []
    for expression in expressions:
        try:
            lines.append(f"{_short(expression.shown)} = {shown(evaluate(expression.code), digits=digits)}")
        except CalculationError as exc:
            lines.append(f"{_short(expression.shown)}: {exc}")
    return "\n".join(lines)


def _short(expression: str) -> str:
    return expression if len(expression) <= MAX_SHOWN_CHARS else f"{expression[:MAX_SHOWN_CHARS]}…"


# --- finding the expression in prose --------------------------------------------------------------------------------------

_WORD_OPERATORS = (
    (r"\bmultiplied\s+by\b|\btimes\b", "*"),
    (r"\bdivided\s+by\b|\bover\b", "/"),
    (r"\bplus\b", "+"),
    (r"\bminus\b", "-"),
    (r"\bto\s+the\s+power\s+of\b", "**"),
    (r"\bmodulo\b|\bmod\b", "%"),
    (r"\bsquare\s+root\s+of\s+(\d+(?:\.\d+)?)", r"sqrt(\1)"),
    (r"\b(\d+(?:\.\d+)?)\s+squared\b", r"\1 ** 2"),
    (r"\b(\d+(?:\.\d+)?)\s+cubed\b", r"\1 ** 3"),
)
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**"})  # noqa: RUF001 - what people type
_NUMBER = r"(?:\d+(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+)"
_TOKEN = re.compile(
    rf"(?P<share>{_NUMBER})\s*(?:%|percent\b)\s*of\b"
    # A percentage, unless a term follows: then % is the remainder, as in 17 % 5.
    rf"|(?P<percent>{_NUMBER})\s*(?:%(?!\s*[\d(.a-z])|percent\b)"
    rf"|(?P<plain>{_NUMBER}|\*\*|//|[-+*/%(),]|\b(?:sqrt|abs|min|max|round|sum|pi|e)\b)",
    re.IGNORECASE,
)
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_CALL = re.compile(r"(?:sqrt|abs|min|max|round|sum)", re.IGNORECASE)
_LEADING, _TRAILING = {"*", "**", "/", "//", "%", ")", ","}, {"+", "-", "*", "**", "/", "//", "%", "(", ","}


@dataclass(frozen=True, slots=True)
class Expression:
    """An arithmetic expression in a text.

    Attributes:
        shown: for people, for example `15% of 80`.
        code: in Python's own syntax, for example `(15/100)* 80`.
    """

    shown: str
    code: str


@dataclass(frozen=True, slots=True)
class _Token:
    gap: str
    shown: str
    code: str


def find_expressions(text: str) -> list[Expression]:
    """Return the arithmetic expressions in a text, in order and each once."""
    prepared = _DATE.sub(" ; ", text[: MAX_CHARS * 4]).translate(_SIGNS)
    for pattern, replacement in _WORD_OPERATORS:
        prepared = re.sub(pattern, replacement, prepared, flags=re.IGNORECASE)
    prepared = re.sub(r"(?<=\d)\s+x\s+(?=[\d(])|(?<=\d)x(?=\d)", " * ", prepared)
    found: list[Expression] = []
    for run in _runs(prepared):
        expression = _trim(run)
        if expression is not None and expression not in found:
            found.append(expression)
    return found


def _runs(text: str) -> list[list[_Token]]:
    """Split a text into runs of neighbouring tokens: anything else between two tokens ends a run."""
    runs: list[list[_Token]] = [[]]
    position = 0
    for match in _TOKEN.finditer(text):
        gap = text[position : match.start()]
        if gap.strip() or "\n" in gap:
            runs.append([])
        run = runs[-1]
        space = " " if gap and run else ""
        number = match["share"] or match["percent"] or match["plain"]
        if number[0].isdigit() and not _inside_call(run):
            number = number.replace(",", "")
        if match["share"]:
            run.append(_Token(space, f"{number}% of", f"({number}/100)*"))
        elif match["percent"]:
            run.append(_Token(space, f"{number}%", f"({number}/100)"))
        else:
            run.append(_Token(space, number, number.lower()))
        position = match.end()
    return [run for run in runs if run]


def _inside_call(run: list[_Token]) -> bool:
    """Tell whether a comma separates arguments here: max(1,200) is not a number of thousands."""
    calls: list[bool] = []
    for index, token in enumerate(run):
        if token.code == "(":
            calls.append(index > 0 and _CALL.fullmatch(run[index - 1].code) is not None)
        elif token.code == ")" and calls:
            calls.pop()
    return any(calls)


def _trim(run: list[_Token]) -> Expression | None:
    """Return the part of a run that is worth computing: punctuation of the sentence around it is left out."""
    tokens = list(run)
    while tokens and tokens[0].code in _LEADING:
        tokens.pop(0)
    while tokens and tokens[-1].code in _TRAILING:
        tokens.pop()
    # Parentheses of the prose, as in "(see 3 + 4)".
    while tokens and (surplus := _surplus(tokens)):
        if surplus > 0 and tokens[0].code == "(":
            tokens.pop(0)
        elif surplus < 0 and tokens[-1].code == ")":
            tokens.pop()
        else:
            break
    codes = [token.code for token in tokens]
    has_value = any(code[0].isdigit() or code[0] == "." or code in {"pi", "e"} or "/100" in code for code in codes)
    has_operation = any(
        code in {"+", "-", "*", "/", "//", "%", "**"} or "/100" in code or _CALL.fullmatch(code) for code in codes
    )
    signed = len(codes) == 2 and codes[0] in {"+", "-"}
    if not has_value or not has_operation or signed:
        return None
    return Expression(
        shown="".join(f"{token.gap}{token.shown}" for token in tokens).strip(),
        code="".join(f"{token.gap}{token.code}" for token in tokens).strip(),
    )


def _surplus(tokens: list[_Token]) -> int:
    codes = [token.code for token in tokens]
    return codes.count("(") - codes.count(")")


# --- evaluating it ---------------------------------------------------------------------------------------------------------


def evaluate(expression: str) -> Number:
    """Compute an expression of numbers, operators and the known functions.

    Raises:
        CalculationError: it is too long, uses anything else, or has no result of a sensible size.
    """
    if len(expression) > MAX_CHARS:
        raise CalculationError(f"the expression is longer than {MAX_CHARS} characters")
    try:
        tree = ast.parse(expression.strip().lower(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CalculationError("this is not an expression that I can read") from None
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise CalculationError("the expression has too many terms")
    try:
        return _value(tree.body, 0)
    except ZeroDivisionError:
        raise CalculationError("division by zero has no result") from None
    except OverflowError:
        raise CalculationError("the result is too large") from None


def shown(value: Number, *, digits: int = DEFAULT_DIGITS) -> str:
    """Return a result for people: whole numbers in full, others to so many significant digits."""
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        return f"{value:.{digits}g}"
    text = str(value)
    if len(text) > MAX_SHOWN_DIGITS:
        return f"{text[:20]}… ({len(text.lstrip('-'))} digits)"
    return text


def _value(node: ast.AST, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise CalculationError("the expression is nested too deeply")
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as value):
            return _bounded(value)
        case ast.Name(id="pi"):
            return math.pi
        case ast.Name(id="e"):
            return math.e
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, depth + 1)
        case ast.BinOp(op=op, left=left, right=right):
            return _bounded(_binary(op, _value(left, depth + 1), _value(right, depth + 1)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name]([_value(argument, depth + 1) for argument in arguments]))
        case _:
            pass
    raise CalculationError(
        "only numbers, + - * / // % **, parentheses, sqrt, abs, min, max, round, sum, pi and e are known"
    )


def _binary(op: ast.operator, left: Number, right: Number) -> Number:
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.FloorDiv():
            return left // right
        case ast.Mod():
            return left % right
        case ast.Pow():
            return _power(left, right)
        case _:
            raise CalculationError("only + - * / // % and ** are known")


def _power(base: Number, exponent: Number) -> Number:
    # Checked before it is computed: 9 ** 9 ** 9 has 370 million digits.
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if base.bit_length() * exponent > MAX_BITS and abs(base) > 1:
            raise CalculationError("the result is too large")
        return int(base**exponent)
    result: float | complex = float(base) ** float(exponent)
    if isinstance(result, complex):
        raise CalculationError("a root of a negative number is not a real number")
    return result


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise CalculationError("the result is too large")
    if isinstance(value, float) and not math.isfinite(value):
        raise CalculationError("the result is too large")
    return value


def _one(arguments: Sequence[Number], name: str) -> Number:
    if len(arguments) != 1:
        raise CalculationError(f"{name} takes one number")
    return arguments[0]


def _sqrt(arguments: Sequence[Number]) -> Number:
    value = _one(arguments, "sqrt")
    if value < 0:
        raise CalculationError("the square root of a negative number is not a real number")
    if isinstance(value, int) and math.isqrt(value) ** 2 == value:
        return math.isqrt(value)
    return math.sqrt(value)


def _round(arguments: Sequence[Number]) -> Number:
    if not 1 <= len(arguments) <= 2:
        raise CalculationError("round takes a number and, if you like, a number of digits")
    digits = arguments[1] if len(arguments) == 2 else 0
    if not isinstance(digits, int) or abs(digits) > 15:
        raise CalculationError("round takes a whole number of digits between -15 and 15")
    return round(arguments[0], digits) if digits else round(arguments[0])


def _several(name: str, function: Callable[[Sequence[Number]], Number]) -> Callable[[Sequence[Number]], Number]:
    def call(arguments: Sequence[Number]) -> Number:
        if not arguments:
            raise CalculationError(f"{name} takes at least one number")
        return function(arguments)

    return call


_FUNCTIONS: dict[str, Callable[[Sequence[Number]], Number]] = {
    "sqrt": _sqrt,
    "abs": lambda arguments: abs(_one(arguments, "abs")),
    "round": _round,
    "min": _several("min", min),
    "max": _several("max", max),
    "sum": _several("sum", sum),
}
