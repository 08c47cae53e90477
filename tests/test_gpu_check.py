"""The GPU check itself: without a GPU it says so; its sections run over the CPU library."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import sys
import time

import pytest

from aqua_jax.control import errors
from aqua_jax.memory import native, native_library
from tests import gpu_check
from tests.device import place as places
from tests.device import processes, sections
from tests.device import report as reports
from tests.memory import parts


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


@parts.needs_native
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


def test_lines_cut_off_in_the_middle_are_a_failure_and_the_table_goes_on(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> None:
        (tmp_path / "links.json").write_text('[{"name": "one", "sta')

    monkeypatch.setattr(gpu_check, "run", cut_off)  # None: its time was up
    check = gpu_check.Check(tmp_path, rehearse=True)
    check.note_machine(None)
    check.run_section("links")
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    notes = [line["note"] for line in found["sections"]["links"]["lines"]]
    assert notes[0].startswith("links.json is no JSON")
    assert notes[1].startswith("ended after")
    assert "2 FAILED" in check.table()


def test_a_write_that_is_cut_short_leaves_the_lines_before_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = reports.Report("links", tmp_path / "links.json")
    report.passed("one")

    def die(path: pathlib.Path, text: str) -> None:
        with path.open("w") as file:
            file.write(text[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, "write_text", die)
    with pytest.raises(KeyboardInterrupt):
        report.passed("two")
    assert [line["name"] for line in json.loads(report.path.read_text())] == ["one"]
    check = gpu_check.Check(tmp_path, rehearse=True)
    (tmp_path / "gpu_check.json").touch()
    with pytest.raises(KeyboardInterrupt):
        check.note_machine(None)
    assert not (tmp_path / "gpu_check.json").read_bytes()


@parts.needs_native
def test_a_rehearsal_does_not_claim_to_have_compiled(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(gpu_check, "run", lambda command, *_: ran.append(command[1]) or 0)
    check = gpu_check.Check(tmp_path, rehearse=True)
    check.build(None)
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    states = {line["name"]: line["state"] for line in found["sections"]["build"]["lines"]}
    assert states == {"configure": "passed", "compile": "skipped"}
    assert ran == ["-S"]


@pytest.mark.parametrize(
    ("code", "state"),
    [(native_library.Code.UNAVAILABLE, "not available"), (native_library.Code.INTERNAL, "FAILED")],
)
@pytest.mark.parametrize("where", ["export", "import"])
@parts.needs_native
def test_only_what_the_library_calls_unavailable_is_no_failure(
    where: str,
    code: native_library.Code,
    state: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of an arena in two processes, in the one and in the other."""

    def refuse(*_: object) -> int:
        raise errors.NativeError("no such thing", code=code)

    if where == "export":
        monkeypatch.setattr(native_library.Library, "memory_export", refuse)
    else:
        answer = {"error": "no such thing", "code": int(code)}
        monkeypatch.setattr(processes, "_lend", lambda *_: answer)
        monkeypatch.setattr(native_library.Library, "memory_export", lambda *_: os.dup(0))
    report = reports.Report("processes", tmp_path / "lines.json")
    processes.share_arenas(places.Place("cpu", tiny=True), report)
    assert {line["state"] for line in report.lines} == {state}


@parts.needs_native
def test_the_borrower_says_with_which_code_it_was_refused() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs, pathlib.Path("/dev/null").open() as no_memory:
        socket.send_fds(ours, [b"memory"], [no_memory.fileno()])
        answer = processes.borrow(theirs, str(native.load().path), "shared", 4096)
    assert answer["code"] in set(native_library.Code)
    assert answer["code"] != native_library.Code.OK


@parts.needs_native
@pytest.mark.long
def test_a_whole_rehearsal(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--rehearse", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(found["sections"]) == ["build", *gpu_check.SECTIONS]
    assert "FAILED" not in capsys.readouterr().out
