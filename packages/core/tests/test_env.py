"""The environment variables: declared once, with the kind of value that each takes."""

from __future__ import annotations

import pytest

from molecule_runtime.core import env

SECRET = "q3Jx8vN2kT7wZ1bC5mR9yL4dF6hG0sPaVeXuOiKtWnE"  # noqa: S105 - made up


def test_names_are_unique_and_every_default_is_of_its_kind() -> None:
    names = [variable.name for variable in env.ALL]
    assert len(names) == len(set(names))
    assert env.problems({variable.name: variable.default for variable in env.ALL if variable.default}) == []


def test_every_variable_of_the_module_is_listed() -> None:
    declared = {name for name, value in vars(env).items() if isinstance(value, env.Variable)}
    assert declared == {variable.name for variable in env.ALL}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("PLATFORM_URL", ["https://a.example", "HTTP://a"], ["a.example", "ftp://a", "//a"]),
        ("LOG_LEVEL", ["DEBUG", "info"], ["loud", "10"]),
        ("MOLECULE_DELIVERY_MODE", ["push", "Poll"], ["pull"]),
        ("DELEGATION_TIMEOUT", ["1", "0.5", "86400"], ["0", "-1", "nan", "soon", "1e9"]),
        ("MOLECULE_MCP_POLL_TIMEOUT_SECS", ["0", "90"], ["-1", "x"]),
        ("MOLECULE_WORKSPACES", ["[]", '[{"id": "a"}]'], ["[", "{" * 10_000]),
        ("MOLECULE_MCP_VERBOSE", ["0", "no", "anything"], []),
        ("MODEL", ["anything at all"], []),
    ],
)
def test_a_value_is_checked_by_the_kind_of_its_variable(name: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        assert env.problems({name: value}) == []
    for value in bad:
        (problem,) = env.problems({name: value})
        assert problem.startswith(f"{name} is ")
        assert "must be" in problem


def test_blank_and_absent_values_are_no_problem() -> None:
    assert env.problems({"PLATFORM_URL": "  ", "LOG_LEVEL": ""}) == []
    assert env.problems({}) == []


def test_all_problems_are_found_at_once_and_none_shows_a_secret() -> None:
    environ = {"MOLECULE_WORKSPACES": f"[{SECRET}", "PLATFORM_URL": SECRET, "LOG_LEVEL": SECRET}
    found = env.problems(environ)
    assert len(found) == 3
    assert SECRET not in " ".join(found)


def test_a_long_value_is_cut() -> None:
    (problem,) = env.problems({"LOG_LEVEL": "x" * 10_000})
    assert len(problem) < 300
