from __future__ import annotations

import json
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

from molecule_runtime.tools.audit import Ledger
from molecule_runtime.tools.audit.cli import main

from .audit_support import calls, ring, vandalise, written

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def run(folder: Path, *arguments: str) -> int:
    return main(arguments, environ={"AUDIT_LEDGER_DB": str(folder / "ledger.db"), "CONFIGS_DIR": str(folder)})


def test_verify_exits_as_the_contract_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, 3)
    assert run(tmp_path, "verify") == 0
    assert "has 4 records; the last is 4" in capsys.readouterr().out
    assert run(tmp_path, "verify", "--agent-id", "ws-1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["events"] == 3
    vandalise(path, "UPDATE entries SET risk_flag = 1 WHERE seq = 2")
    assert run(tmp_path, "verify") == 1
    assert "BROKEN: record 2 was changed" in capsys.readouterr().out
    assert run(tmp_path, "verify", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["valid"], said["segments"]) == (False, 1)
    assert said["first_bad_id"]
    path.write_bytes(b"scrambled " * 1000)
    assert run(tmp_path, "verify") == 3
    path.unlink()
    (tmp_path / "ledger.checkpoints.jsonl").unlink(missing_ok=True)
    assert run(tmp_path, "verify") == 0, "nothing was ever written"
    assert "has no records" in capsys.readouterr().out
    (tmp_path / "ledger.key").unlink()
    assert run(tmp_path, "verify") == 2
    assert "AUDIT_LEDGER_SALT is not set" in capsys.readouterr().err
    assert main(["verify"], environ={"AUDIT_LEDGER_DB": "postgresql://x/y"}) == 2
    assert main(["verify"], environ={"AUDIT_LEDGER_DB": "off"}) == 2
    assert main(["verify", "--db", str(path)], environ={"AUDIT_LEDGER_DB": "off"}) == 2


def test_tail_shows_the_newest_and_lets_no_control_character_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, 5, segment_records=4)
    assert run(tmp_path, "tail", "-n", "2") == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[2:] == ["ws-1", "tool_call", "tool-4", "success"]
    ledger = Ledger(tmp_path / "ledger.db", ring(tmp_path))
    ledger.append(calls("wipe\x1b[2J\nthe screen"))
    ledger.close()
    assert run(tmp_path, "tail", "-n", "1") == 0
    assert "wipe?[2J?the screen" in capsys.readouterr().out
    assert run(tmp_path, "tail", "-n", "2", "--agent-id", "ws-1", "--json") == 0
    newest = [json.loads(line)["model_used"] for line in capsys.readouterr().out.splitlines()]
    assert newest == ["tool-4", "wipe\x1b[2J\nthe screen"]


def test_an_export_is_stable_private_and_verifies_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, 6, segment_records=4)
    assert run(tmp_path, "export") == 0
    printed = capsys.readouterr().out
    assert run(tmp_path, "export", "-o", str(tmp_path / "out.jsonl")) == 0
    exported = (tmp_path / "out.jsonl").read_text()
    assert exported == printed
    assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o600
    first = json.loads(exported.splitlines()[0])
    assert list(first) == sorted(first)
    assert set(first) == {
        *(
            "seq",
            "id",
            "timestamp",
            "agent_id",
            "session_id",
            "operation",
            "model_used",
            "outcome",
            "input_hash",
            "output_hash",
        ),
        *("human_oversight_flag", "risk_flag", "trace_id", "content", "key_id", "prev_hmac", "hmac"),
    }
    assert run(tmp_path, "export", "-o", str(tmp_path / "out.jsonl")) == 2, "an export is never overwritten"
    assert run(tmp_path, "verify", "--file", str(tmp_path / "out.jsonl")) == 0
    (tmp_path / "out.jsonl").write_text(exported.replace("tool-2", "tool-9"))
    assert run(tmp_path, "verify", "--file", str(tmp_path / "out.jsonl")) == 1
    (tmp_path / "out.jsonl").write_text("[]\n")
    assert run(tmp_path, "verify", "--file", str(tmp_path / "out.jsonl")) == 1
    assert run(tmp_path, "verify", "--file", str(tmp_path / "absent.jsonl")) == 3


def test_a_printed_checkpoint_that_is_kept_proves_a_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, 4)
    assert run(tmp_path, "checkpoint") == 0
    (tmp_path / "kept.jsonl").write_text(capsys.readouterr().out)
    assert run(tmp_path, "verify", "--checkpoints", str(tmp_path / "kept.jsonl")) == 0
    for file in (path, tmp_path / "ledger.checkpoints.jsonl"):
        file.unlink()
    written(tmp_path, 2)
    capsys.readouterr()
    assert run(tmp_path, "verify") == 0
    assert run(tmp_path, "verify", "--checkpoints", str(tmp_path / "kept.jsonl")) == 1
    assert "the end was cut off" in capsys.readouterr().out


def test_rotate_ends_a_segment_or_changes_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, 1)
    assert run(tmp_path, "rotate") == 0
    assert run(tmp_path, "rotate", "--key", "--json") == 0
    new = json.loads(capsys.readouterr().out.splitlines()[-1])["key_id"]
    written(tmp_path, 1)
    assert run(tmp_path, "tail", "--json", "-n", "1") == 0
    assert json.loads(capsys.readouterr().out)["key_id"] == new
    assert run(tmp_path, "verify") == 0


def test_the_command_itself_answers_and_stops_quietly_when_nobody_reads(tmp_path: Path) -> None:
    written(tmp_path, 300)
    command = [sys.executable, "-m", "molecule_runtime.tools.audit.cli"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert "molecule-audit" in shown.stdout
    assert "AUDIT_LEDGER_SALT" in shown.stdout
    line = f"{sys.executable} -m molecule_runtime.tools.audit.cli export --db {tmp_path}/ledger.db | head -n 1"
    piped = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(piped.stdout)["operation"] == "ledger_open"
    assert piped.stderr == ""
