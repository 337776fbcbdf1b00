"""The check of the adapter: whatever the module does, it does it to a process of its own."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest

from molecule_runtime.core.config import load
from molecule_runtime.core.preflight import Context, Result, Status, run_checks
from molecule_runtime.core.preflight.adapter import ADAPTER_CHECK

GOOD = """
from molecule_runtime.core import BaseAdapter

class Adapter(BaseAdapter):
    name = staticmethod(lambda: "mine")
    display_name = staticmethod(lambda: "Mine")
    description = staticmethod(lambda: "Mine.")
    async def setup(self, config): ...
    async def create_executor(self, config): ...
"""


def run(
    folder: Path, source: str, config: str = "runtime: mine", *, deadline: float = 60.0, **environ: str
) -> list[Result]:
    (folder / "my_adapter.py").write_text(textwrap.dedent(source), encoding="utf-8")
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    given = {"ADAPTER_MODULE": "my_adapter", "PYTHONPATH": str(folder), "PATH": os.environ["PATH"], **environ}
    given = {name: value for name, value in given.items() if value}
    context = Context(loaded=load(folder, given), environ=given, adapter_deadline=deadline)
    return list(run_checks([ADAPTER_CHECK], context).results)


def test_a_good_adapter_is_well_and_leaves_no_trace_here(tmp_path: Path) -> None:
    (found,) = run(tmp_path, "print('hello', flush=True)\n" + GOOD)
    assert (found.status, found.reason) == (Status.OK, "ADAPTER_MODULE 'my_adapter' is 'mine'")
    assert "my_adapter" not in sys.modules


def test_a_name_that_differs_from_the_runtime_is_worth_a_word(tmp_path: Path) -> None:
    results = run(tmp_path, GOOD, "runtime: yours")
    assert [str(result.status) for result in results] == ["ok", "warn"]
    assert results[1].fix == "set runtime: mine"


def test_the_one_adapter_of_a_module_needs_no_special_name(tmp_path: Path) -> None:
    (found,) = run(tmp_path, GOOD.replace("class Adapter(", "class Mine("))
    assert found.status is Status.OK


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise ValueError('no\\n key')", ["cannot be imported", "ValueError: no key"]),
        ("import no_such_package", ["ModuleNotFoundError", "no_such_package"]),
        ("this is no python", ["SyntaxError"]),
        ("import sys; sys.exit('bye')", ["SystemExit: bye"]),
        ("x = 1", ["defines no adapters", "name one class Adapter"]),
        ("Adapter = 5", ["int, not a class"]),
        (GOOD.replace('staticmethod(lambda: "mine")', "staticmethod(lambda: 1 / 0)"), ["name() failed", "ZeroDivisionError"]),
        (GOOD.replace('staticmethod(lambda: "mine")', "staticmethod(lambda: '  ')"), ["name() returned", "not empty"]),
        (GOOD.replace('staticmethod(lambda: "mine")', "staticmethod(lambda: None)"), ["name() returned NoneType"]),
        (GOOD + "    def __init__(self, needed): ...", ["cannot be instantiated", "needed"]),
        ("import os; os._exit(0)", ["ended its process with exit code 0"]),
        ("import os; os._exit(7)", ["ended its process with exit code 7"]),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", ["ended its process with SIGSEGV"]),
        ("import sys; sys.modules.clear()", []),
        ("import os; os.close(1); os.close(2); raise OSError('quiet')", ["OSError: quiet"]),
    ],
)  # fmt: skip
def test_a_module_that_is_no_adapter_is_one_failure_with_its_reason(
    tmp_path: Path, source: str, words: list[str]
) -> None:
    (found,) = run(tmp_path, source)
    assert found.status is Status.FAIL
    assert all(word in found.reason for word in words), found.reason
    assert found.fix


def test_an_adapter_module_that_does_not_exist_is_a_failure(tmp_path: Path) -> None:
    (found,) = run(tmp_path, "", ADAPTER_MODULE="nowhere.at.all")
    assert found.status is Status.FAIL
    assert "nowhere" in found.reason


def test_without_a_module_the_runtime_must_be_an_installed_adapter(tmp_path: Path) -> None:
    (found,) = run(tmp_path, "", "runtime: no-such-runtime", ADAPTER_MODULE="")
    assert found.status is Status.FAIL
    assert "'no-such-runtime' is not among the installed adapters" in found.reason
    assert "ADAPTER_MODULE" in found.fix


def test_a_module_that_never_ends_is_stopped_at_the_deadline_with_all_that_it_started(tmp_path: Path) -> None:
    source = """
        import os, subprocess, sys, threading, pathlib
        child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
        pathlib.Path(__file__).with_name("child").write_text(str(child.pid))
        print("at work", flush=True)
        threading.Event().wait()
    """
    (found,) = run(tmp_path, source, deadline=5.0)
    assert found.status is Status.FAIL
    assert "was not imported within 5 s" in found.reason
    assert "at work" in found.detail
    assert not alive(int((tmp_path / "child").read_text()))


def alive(pid: int) -> bool:
    try:
        # A child of a process that was killed belongs to init, which may not have collected it yet.
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_module_that_prints_without_end_fills_nothing_and_is_stopped(tmp_path: Path) -> None:
    (found,) = run(tmp_path, "while True: print('noise ' * 1000)", deadline=3.0)
    assert found.status is Status.FAIL
    assert len(found.detail) <= 1000


def test_a_module_that_leaves_a_thread_behind_does_not_hold_up_the_check(tmp_path: Path) -> None:
    source = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n" + GOOD
    (found,) = run(tmp_path, source)
    assert found.status is Status.OK


def test_a_module_cannot_shadow_the_standard_library_of_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (found,) = run(tmp_path, GOOD, PYTHONPATH="")
    assert found.status is Status.OK


def test_what_a_module_prints_is_shown_without_secrets(tmp_path: Path) -> None:
    secret = "ghp_" + "Ab3" * 12
    (found,) = run(tmp_path, f"print('using {secret}', flush=True); raise ValueError('{secret}')")
    assert secret not in str(found)
    assert "using" in found.detail
