"""The GPU check itself: without a GPU it says so; its sections run over the CPU library."""

from __future__ import annotations

import json
import pathlib
import sys
import time

import pytest

from aqua_jax.memory import native
from tests import gpu_check
from tests.device import sections

needs_native = pytest.mark.skipif(
    not native.available("cpu"), reason=native.missing_reason("cpu") or "built"
)


def test_the_sections_are_those_there_are() -> None:
    assert set(gpu_check.SECTIONS) == set(sections.SECTIONS)


@pytest.mark.skipif(gpu_check.find_gpu() is not None, reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_runs_nothing(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert gpu_check.main(["--out", str(out)]) == 2
    assert capsys.readouterr().out.count("\n") == 1
    assert not out.exists()


def test_an_unknown_section_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_check.main(["--sections", "linkz"])
    assert "known are load" in capsys.readouterr().err


def test_a_command_is_ended_with_its_children(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "log"
    text = "import subprocess, time; subprocess.Popen(['sleep', '60']); print('up', flush=True)"
    started = time.monotonic()
    command = [sys.executable, "-c", f"{text}; time.sleep(60)"]
    assert gpu_check.run(command, log, gpu_check.environment(True), 1.5) is None
    assert time.monotonic() - started < 20
    assert log.read_text() == "up\n"


@needs_native
def test_a_section_writes_what_it_finds(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = gpu_check.Check(tmp_path, rehearse=True)
    check.note_machine(None)
    check.run_section("load")
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    states = [line["state"] for line in found["sections"]["load"]["lines"]]
    assert states == ["passed"] * 4
    assert not check.has_failed
    assert "CPU, a rehearsal: 4 passed" in check.table()
    assert "0 failed" in capsys.readouterr().out


def test_a_section_that_fails_is_a_failure(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = gpu_check.Check(tmp_path, rehearse=True)
    check.note_machine(None)
    check.run_section("no such section")
    assert check.has_failed
    assert "status 2" in check.table()
    assert "1 failed" in capsys.readouterr().out


@needs_native
@pytest.mark.long
def test_a_whole_rehearsal(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--rehearse", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(found["sections"]) == ["build", *gpu_check.SECTIONS]
    assert "FAILED" not in capsys.readouterr().out
