"""The ways in which an adapter is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from molecule_runtime.a2a.errors import AdapterLoadError
from molecule_runtime.a2a.examples.calculator import Adapter as Calculator
from molecule_runtime.a2a.loading import load_adapter
from molecule_runtime.core.errors import ConfigurationError

from .support import ECHO, Workspace, ask, ready, serving, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Workspace]

pytestmark = pytest.mark.anyio


async def test_the_attribute_named_adapter_is_used(make_workspace: Make) -> None:
    workspace = make_workspace()
    assert (await load_adapter(workspace.adapter, "ignored")).name() == "echo"


async def test_the_only_concrete_subclass_is_used_where_none_is_named_adapter(make_workspace: Make) -> None:
    source = (
        ECHO.replace("class Adapter(BaseAdapter)", "class Parrot(BaseAdapter)")
        + "\n    class Base(BaseAdapter): pass\n"
    )
    workspace = make_workspace(source)
    assert type(await load_adapter(workspace.adapter, "ignored")).__name__ == "Parrot"


async def test_two_unnamed_adapters_are_refused(make_workspace: Make) -> None:
    source = ECHO.replace("class Adapter(BaseAdapter)", "class One(BaseAdapter)") + "\n    class Two(One): pass\n"
    workspace = make_workspace(source)
    with pytest.raises(AdapterLoadError, match="One, Two"):
        await load_adapter(workspace.adapter, "ignored")


async def test_an_installed_adapter_is_found_by_the_runtime_key() -> None:
    assert isinstance(await load_adapter("", "calculator"), Calculator)
    with pytest.raises(ConfigurationError):
        await load_adapter("", "nobody-has-this")


async def test_an_import_that_never_ends_does_not_hold_the_boot_up(make_workspace: Make) -> None:
    workspace = make_workspace("import threading; threading.Event().wait()")
    with anyio.fail_after(20), pytest.raises(AdapterLoadError, match="not imported within"):
        await load_adapter(workspace.adapter, "ignored", deadline=0.2)


@pytest.mark.parametrize(
    ("runtime", "question", "expected"),
    [
        ("calculator", "What is (17 * 23) + 4?", "(17 * 23) + 4 = 395"),
        ("table", "Which planet has the largest mass?", "Jupiter has the largest mass: 1898 ×10^24 kg."),  # noqa: RUF001
    ],
)
async def test_the_installed_examples_answer(make_workspace: Make, runtime: str, question: str, expected: str) -> None:
    workspace = make_workspace("", f"runtime: {runtime}")
    async with serving(workspace):
        await ready(workspace)
        assert text_of(await ask(workspace, question)) == expected
