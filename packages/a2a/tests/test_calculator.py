"""The calculator: what it finds in prose, what it computes, and where it stops."""

from __future__ import annotations

import pytest

from molecule_runtime.a2a.examples.calculator import CalculationError, answer, evaluate


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is (17 * 23) + 4?", "(17 * 23) + 4 = 395"),
        ("15% of 80", "15% of 80 = 12"),
        ("What is 15 percent of 80, please?", "15% of 80 = 12"),
        ("17 % 5", "17 % 5 = 2"),
        ("7 // 2", "7 // 2 = 3"),
        ("2 ** 10", "2 ** 10 = 1024"),
        ("2^10", "2**10 = 1024"),
        ("what is 3 times 4?", "3 * 4 = 12"),
        ("10 divided by 4", "10 / 4 = 2.5"),
        ("sqrt(16) + abs(-3)", "sqrt(16) + abs(-3) = 7"),
        ("square root of 2", "sqrt(2) = 1.41421356237"),
        ("max(1,200, 3)", "max(1,200, 3) = 200"),
        ("sum(1, 2, 3) / 2", "sum(1, 2, 3) / 2 = 3"),
        ("round(3.14159, 2)", "round(3.14159, 2) = 3.14"),
        ("1,234.5 + 1", "1234.5 + 1 = 1235.5"),
        ("pi * 2", "pi * 2 = 6.28318530718"),
        ("0.1 + 0.2", "0.1 + 0.2 = 0.3"),
        ("-(3 + 4)", "-(3 + 4) = -7"),
        ("6 × 7 − 2", "6 * 7 - 2 = 40"),  # noqa: RUF001 - what people type
        ("(see 3 + 4)", "3 + 4 = 7"),
        ("Compute 3+4. Then 5*6!", "3+4 = 7\n5*6 = 30"),
        ("5 x 6", "5 * 6 = 30"),
        ("On 2024-01-02 it was 1 + 1", "1 + 1 = 2"),
        ("12 squared", "12 ** 2 = 144"),
    ],
)
def test_an_expression_in_prose_is_shown_with_its_result(question: str, expected: str) -> None:
    assert answer(question) == expected


@pytest.mark.parametrize(
    "question",
    ["9**9**9", "9**99999", "2**0.5**-99999", "(10**300)**300.0", "99999**999 * 99999**999 * 9", "1/0", "0 ** -1", "sqrt(-1)",
     "(-8)**0.5", "abs(1, 2)", "min()+1", "round(1, 2, 3)", "round(1.5, 99)", "(" * 300 + "1+1" + ")" * 300, "-" * 300 + "1+1",
     "+".join(["1"] * 400), "(1+2)(3)", "1 +* 2"],
)  # fmt: skip
def test_what_has_no_sensible_result_is_said_and_never_hangs(question: str) -> None:
    said = answer(question)
    assert ": " in said
    assert " = " not in said


def test_a_large_whole_number_is_shortened() -> None:
    assert answer("10 ** 100") == "10 ** 100 = 10000000000000000000… (101 digits)"


@pytest.mark.parametrize(
    "question", ["hello", "", "I have 3 apples.", "call +49 now", "__import__('os').system('x')", "12"]
)
def test_a_message_without_arithmetic_is_told_what_can_be_asked(question: str) -> None:
    assert "nothing to compute" in answer(question)


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os')",
        "a.b",
        "[1, 2]",
        "lambda: 1",
        "1 if 1 else 2",
        "'a' * 9",
        "True + 1",
        "1 < 2",
        "1 << 9",
        "f(1)",
        "x := 1",
    ],
)
def test_nothing_but_arithmetic_is_evaluated(code: str) -> None:
    with pytest.raises(CalculationError):
        evaluate(code)


def test_a_result_has_as_many_significant_digits_as_are_asked_for() -> None:
    assert answer("1 / 3") == "1 / 3 = 0.333333333333"
    assert answer("1 / 3", digits=3) == "1 / 3 = 0.333"
    assert answer("10 ** 6 + 1", digits=3) == "10 ** 6 + 1 = 1000001"
