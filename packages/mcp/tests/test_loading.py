"""What a process loads: a session works without the parts of the SDK that it does not use, and nobody notices that they are not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.tenants import Member

from .processes import INITIALIZE, INITIALIZED, MODULE, SECONDS, one

if TYPE_CHECKING:
    from pathlib import Path

UNUSED = (
    "mcp.client",
    "mcp.server.mcpserver",
    "uvicorn.config",
    "click",
    "rich",
    "pygments",
    "httpx2",
    "cryptography",
    "opentelemetry.sdk",
    "multiprocessing",
)
"""What a session over stdio has no use for. The first of them are here as soon as a module asks `mcp` or `mcp.server` itself for a name:
ask `mcp_types`, `mcp.shared` or `mcp.server.lowlevel`."""


def python(code: str, *, path: Path | None = None) -> str:
    environ = {"PATH": os.environ["PATH"], **({} if path is None else {"PYTHONPATH": str(path)})}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_a_session_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    where = one(tmp_path / "p", "http://127.0.0.1:9", Member("alice", "t"))
    messages = [
        INITIALIZE,
        INITIALIZED,
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "get_runtime_identity"}},
        {"jsonrpc": "2.0", "id": 4, "method": "resources/list"},
    ]
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", *MODULE],
        env=where.environ,
        input=b"".join(json.dumps(message).encode() + b"\n" for message in messages),
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    assert len(ran.stdout.splitlines()) == 4
    rows = [line.split("|") for line in ran.stderr.decode().splitlines() if line.startswith("import time:")]
    loaded = {row[-1].strip() for row in rows}
    assert "mcp.server.lowlevel.server" in loaded
    assert [name for name in sorted(loaded) for unused in UNUSED if f"{name}.".startswith(f"{unused}.")] == []


def test_who_asks_for_what_was_left_out_gets_it() -> None:
    found = python(
        "from molecule_runtime.mcp.loading import load_own, load_session\n"
        "load_own(); load_session()\n"
        "import sys, mcp, mcp.server\n"
        "before = 'mcp.client.client' in sys.modules\n"
        "from mcp import Client, types\n"
        "from mcp.server import MCPServer, Server\n"
        "from mcp.server.lowlevel import Server as Same\n"
        "print(before, Client.__module__, Server is Same, mcp.server.MCPServer is MCPServer, types.Tool.__module__)\n"
        "import uvicorn, httpx; print(hasattr(mcp, 'nothing'), hasattr(mcp.server, 'nothing'))"
    )
    assert found == "False mcp.client.client True True mcp_types._types\nFalse False"


def test_what_was_changed_for_the_loading_is_as_it_was() -> None:
    found = python(
        "import gc, sys, pydantic\n"
        "before = dict(pydantic.BaseModel.model_config)\n"
        "from molecule_runtime.mcp.loading import load_own, load_session\n"
        "load_own(); load_session()\n"
        "print(pydantic.BaseModel.model_config == before, gc.isenabled(), [n for n, m in sys.modules.items() if m is None])"
    )
    assert found == "True True []"


@pytest.mark.parametrize(
    ("part", "own"),
    [
        ("from sdk import NAME\n", ""),
        # As if the SDK relied on the order in which its packages load.
        ("import sys\nif 'sdk.client' not in sys.modules: raise ImportError('out of order')\n", "import sdk.client\n"),
        ("import sdk\nclass Part:\n    value = sdk.NAME\n", ""),
    ],
)
def test_an_sdk_that_does_not_load_in_parts_is_loaded_as_a_whole(tmp_path: Path, part: str, own: str) -> None:
    package = tmp_path / "sdk"
    package.mkdir()
    (package / "__init__.py").write_text(f"NAME = 1\n{own}", encoding="utf-8")
    (package / "client.py").write_text("", encoding="utf-8")
    (package / "part.py").write_text(part, encoding="utf-8")
    found = python(
        "from molecule_runtime.mcp.loading import load\n"
        "load(['sdk.part'], unread=['sdk', 'sdk.absent'])\n"
        "import sdk, sdk.part\n"
        "print(sdk.NAME, sdk.part.__name__)",
        path=tmp_path,
    )
    assert found == "1 sdk.part"


def test_what_cannot_be_loaded_at_all_is_said() -> None:
    found = python(
        "from molecule_runtime.mcp.loading import load\n"
        "try:\n    load(['mcp.is_not_there'])\n"
        "except ModuleNotFoundError as exc:\n    print(exc.name)"
    )
    assert found == "mcp.is_not_there"
