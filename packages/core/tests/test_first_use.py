"""Models are built when they are first used, and threads that use one first at the same time do not disturb each other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from molecule_runtime.core.config import WorkspaceConfig
from molecule_runtime.core.config.blocks import Block
from molecule_runtime.core.config.meanings import meanings_of
from molecule_runtime.core.config.review import fields_of
from molecule_runtime.core.first_use import BUILT_ON_FIRST_USE

needs_locking = pytest.mark.skipif(not BUILT_ON_FIRST_USE, reason="this pydantic builds models as they are imported")


def run(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout.strip()


@needs_locking
def test_importing_the_client_builds_no_model_of_an_answer() -> None:
    built = run(
        "import molecule_runtime.core.platform.client as client\n"
        "from molecule_runtime.core.platform import wire\n"
        "models = [wire.Response, *wire.Response.__subclasses__(), *wire.Request.__subclasses__()]\n"
        "print(len(models) > 20, [model.__name__ for model in models if model.__pydantic_complete__])"
    )
    assert built == "True []"


@needs_locking
def test_threads_that_use_a_model_first_at_the_same_time_all_get_its_own_answers() -> None:
    agreed = run(
        "import sys, threading\n"
        "sys.setswitchinterval(1e-6)\n"
        "from molecule_runtime.core.registry import arguments_model\n"
        "ready, found = threading.Barrier(8), []\n"
        "def use():\n"
        "    ready.wait(30)\n"
        "    for name in ('delegate_task', 'create_request', 'send_message_to_user', 'run_code'):\n"
        "        try:\n"
        "            arguments_model(name).model_validate({'nobody': 1})\n"
        "        except ValueError as exc:\n"
        "            found.append((name, str(exc)))\n"
        "threads = [threading.Thread(target=use) for _ in range(8)]\n"
        "[thread.start() for thread in threads]; [thread.join(60) for thread in threads]\n"
        "print(len(found), len(set(found)))"
    )
    assert agreed == "32 4"


def test_every_key_of_the_configuration_says_what_it_means() -> None:
    models: list[type[Block]] = [WorkspaceConfig, *Block.__subclasses__()]
    for model in models:
        assert set(meanings_of(model)) == set(fields_of(model)), model.__name__
