"""Which URLs the platform may call."""

from __future__ import annotations

from typing import Literal

import pytest

from molecule_runtime.localplatform import urls

pytestmark = pytest.mark.anyio

LOOPBACK = [
    "http://127.0.0.1:8000",
    "http://127.9.9.9",
    "http://localhost:1/x",
    "http://[::1]:2",
    "http://[::ffff:127.0.0.1]/",
]
REFUSED = [
    "",
    "http://",
    "ftp://127.0.0.1",
    "remote://no-inbound",
    "javascript:alert(1)",
    "http://169.254.169.254/latest/meta-data",
    "http://[::ffff:169.254.169.254]/",
    "http://[fe80::1]/",
    "http://10.0.0.1",
    "http://172.31.0.1",
    "http://192.168.1.1",
    "http://[fd00::1]/",
    "http://100.64.0.1",
    "http://0.0.0.0:8000",
    "http://[::]/",
    "http://224.0.0.1",
    "http://255.255.255.255",
    "http://[64:ff9b::a00:1]/",
    "http://198.51.100.1",
    "http://127.0.0.1:0",
    "http://127.0.0.1:99999",
    "http://a:b@127.0.0.1",
    "http://127.0.0.1 /x",
    "http://127.0.0.1/\n",
    "http://[::1",
    "http://no-such-name.invalid",
    "http://127.0.0.1/" + "x" * 3000,
]


@pytest.mark.parametrize("url", LOOPBACK)
async def test_loopback_is_for_the_local_rule_only(url: str) -> None:
    assert await urls.problem_of(url, "local") is None
    assert await urls.problem_of(url, "strict")


@pytest.mark.parametrize("rule", ["local", "strict"])
@pytest.mark.parametrize("url", REFUSED)
async def test_other_peoples_machines_are_refused(url: str, rule: Literal["local", "strict"]) -> None:
    assert await urls.problem_of(url, rule)


async def test_public_addresses_are_admitted() -> None:
    for url in ("https://93.184.216.34/a2a", "http://[2606:4700::1111]:8000"):
        assert await urls.problem_of(url, "strict") is None
