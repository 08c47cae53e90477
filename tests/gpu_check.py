"""Everything that only a machine with an NVIDIA GPU can show, in one command.

    python3 -m tests.gpu_check [--out DIR] [--rehearse] [--sections a,b]

Builds the CUDA library with this machine's nvcc and jax, runs the tests that are marked `device`
and measures. Each section is a process with a time limit of its own, so that a crash or a hang
takes no other with it; DIR/gpu_check.json is written after each, and one table is printed last.
What the machine forbids is "not available", never passed.

Exit status: 0 nothing failed; 1 something did; 2 there is no GPU here. `--rehearse` runs the same
sections over the CPU library at the smallest sizes. Needs Python and jax with its CUDA plugin,
cmake and nvcc; no pytest and no network.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The whole has to end within the eight minutes that a machine may be lent for.
TOTAL_SECONDS = 450.0
BUILD_SECONDS = 200.0
# Of tests/device/sections.py, which this file does not import: jax comes up in children alone.
SECTIONS = (
    "load", "checks", "links", "processes", "attention", "movers", "batches", "overlap", "text",
)  # fmt: skip
SECTION_SECONDS = {"checks": 120.0, "text": 150.0, "attention": 90.0}
_SECTION_SECONDS = 60.0
_LEAST_SECONDS = 5.0  # with less than this left a section is not begun

_COMPUTE_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


class Gpu(NamedTuple):
    """name: of device 0. architecture: as CMake has it, "90"."""

    devices: int
    name: str
    architecture: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all sections; the exit status."""
    given = _parse(arguments)
    gpu = None if given.rehearse else find_gpu()
    if gpu is None and not given.rehearse:
        print("gpu_check: no NVIDIA GPU here (no driver answers): nothing was run")
        return 2
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    check = Check(out, rehearse=given.rehearse)
    check.note_machine(gpu)
    check.build(gpu)
    for name in given.sections:
        check.run_section(name)
    print(check.table())
    return 1 if check.has_failed else 0


def find_gpu() -> Gpu | None:
    """Device 0 as the driver sees it; None without a driver or a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count, device = ctypes.c_int(0), ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    name = ctypes.create_string_buffer(128)
    if driver.cuDeviceGet(ctypes.byref(device), 0) or driver.cuDeviceGetName(name, 128, device):
        return None
    digits = []
    for attribute in _COMPUTE_CAPABILITY:
        value = ctypes.c_int(0)
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        digits.append(str(value.value))
    return Gpu(count.value, name.value.decode(), "".join(digits))


class Check:
    """Sections one after another, and what they found. `out`: the folder of all files."""

    def __init__(self, out: pathlib.Path, *, rehearse: bool) -> None:
        self._out = out
        self._rehearse = rehearse
        self._until = time.monotonic() + TOTAL_SECONDS
        self._sections: dict[str, dict[str, Any]] = {}
        self._machine: dict[str, Any] = {}

    @property
    def has_failed(self) -> bool:
        """Whether any line of any section is a failure."""
        return any(line["state"] == "FAILED" for _, line in self._lines())

    def note_machine(self, gpu: Gpu | None) -> None:
        """What the figures are of."""
        self._machine = {
            "gpu": gpu.name if gpu else None,
            "gpus": gpu.devices if gpu else 0,
            "host": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "rehearsal": self._rehearse,
        }
        self._save()

    def build(self, gpu: Gpu | None) -> None:
        """The library, where native.py looks for it, for this GPU alone."""
        target = "aqua_cuda" if gpu else "aqua_cpu"
        folder = self._out / "build"
        configure = ["cmake", "-S", str(ROOT / "xla_ext"), "-B", str(folder)]
        configure += [f"-DPython_EXECUTABLE={sys.executable}"]
        configure += ["-G", "Ninja"] if shutil.which("ninja") else []
        configure += [f"-DAQUA_CUDA={'ON' if gpu else 'OFF'}"]
        configure += [f"-DAQUA_CUDA_ARCHITECTURES={gpu.architecture}-real"] if gpu else []
        make = ["cmake", "--build", str(folder), "--target", target, "--parallel"]
        there = ROOT / "aqua_jax/memory/libaqua_cpu.so"
        is_kept = self._rehearse and there.is_file()
        started = time.monotonic()
        lines = []
        for name, command in (("configure", configure), ("compile", make)):
            if is_kept and command is make:
                why = f"a rehearsal: the {there.name} that is there is used, and not replaced"
                lines.append(_line(name, "skipped", why))
                continue
            left = max(BUILD_SECONDS - (time.monotonic() - started), _LEAST_SECONDS)
            lines.append(self._build_step(name, command, left))
            if lines[-1]["state"] == "FAILED":
                break
        self._finish("build", lines, time.monotonic() - started)

    def run_section(self, name: str) -> None:
        """One section in a process of its own, ended with all its children when its time is up."""
        limit = min(SECTION_SECONDS.get(name, _SECTION_SECONDS), self._until - time.monotonic())
        file, log = self._out / f"{name}.json", self._out / f"{name}.log"
        file.unlink(missing_ok=True)
        if limit < _LEAST_SECONDS:
            self._finish(name, [_line("section", "FAILED", "no time was left for it")], 0.0)
            return
        command = [sys.executable, "-m", "tests.device.sections", name, str(file)]
        command += ["--rehearse"] if self._rehearse else []
        started = time.monotonic()
        ended = run(command, log, environment(self._rehearse), limit)
        lines = _read_lines(file)
        if ended is None:
            lines.append(_line("section", "FAILED", f"ended after {limit:.0f} s; see {log.name}"))
        elif ended != 0:
            lines.append(_line("section", "FAILED", f"status {ended}: {_tail(log)}"))
        elif not lines:
            lines.append(_line("section", "FAILED", f"found nothing: {_tail(log)}"))
        self._finish(name, lines, time.monotonic() - started)

    def table(self) -> str:
        """All lines, a row each, and their sum."""
        rows = [
            (name, line["name"], " ".join(filter(None, (line["figure"], line["note"]))),
             line["state"])
            for name, line in self._lines()
        ]  # fmt: skip
        rows = [(a, b[:60], c[:100], d) for a, b, c, d in rows]
        widths = [max(map(len, column), default=0) for column in zip(*rows, strict=True)]
        text = "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
        states = [line["state"] for _, line in self._lines()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        what = self._machine["gpu"] or "CPU, a rehearsal"
        return f"\n{text}\n\n{what}: {counts}; {self._out / 'gpu_check.json'}"

    def _build_step(self, name: str, command: list[str], seconds: float) -> dict[str, Any]:
        log = self._out / f"build-{name}.log"
        try:
            ended = run(command, log, environment(self._rehearse), seconds)
        except FileNotFoundError as error:
            return _line(name, "FAILED", f"{error.filename} is not installed")
        if ended is None:
            return _line(name, "FAILED", f"ended after {seconds:.0f} s: {_tail(log)}")
        return _line(name, "FAILED" if ended else "passed", _tail(log) if ended else "")

    def _finish(self, name: str, lines: list[dict[str, Any]], seconds: float) -> None:
        self._sections[name] = {"seconds": round(seconds, 1), "lines": lines}
        self._save()
        failed = sum(line["state"] == "FAILED" for line in lines)
        print(f"{name}: {len(lines)} lines, {failed} failed, {seconds:.0f} s", flush=True)

    def _lines(self) -> list[tuple[str, dict[str, Any]]]:
        return [(name, line) for name, part in self._sections.items() for line in part["lines"]]

    def _save(self) -> None:
        found = {"schema_version": 1, "machine": self._machine, "sections": self._sections}
        file, new = self._out / "gpu_check.json", self._out / "gpu_check.json.new"
        new.write_text(json.dumps(found, indent=1))
        os.replace(new, file)  # whoever is ended meanwhile leaves the one before it whole


def run(
    command: Sequence[str], log: pathlib.Path, env: dict[str, str], seconds: float
) -> int | None:
    """The status of a command whose output goes to `log`; None when its time was up.

    It and its children are ended then. Raises FileNotFoundError.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def environment(rehearse: bool) -> dict[str, str]:
    """Of children: jax on the platform in question, its memory taken as it is needed."""
    env = dict(os.environ)
    env["JAX_PLATFORMS"] = "cpu" if rehearse else "cuda"
    env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # arenas and other processes need room
    env["PYTHONUNBUFFERED"] = "1"
    if shutil.which("nvcc") is None and pathlib.Path("/usr/local/cuda/bin/nvcc").is_file():
        env["CUDACXX"] = "/usr/local/cuda/bin/nvcc"
    return env


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.gpu_check", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path(os.environ.get("OUT", "out/gpu_check"))
    )
    parser.add_argument("--rehearse", action="store_true", help="on the CPU library, tiny sizes")
    parser.add_argument(
        "--sections", type=lambda text: text.split(","), default=list(SECTIONS), help="a,b,..."
    )
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no section {unknown}: known are {', '.join(SECTIONS)}")
    return given


def _read_lines(file: pathlib.Path) -> list[dict[str, Any]]:
    """What a section wrote; a failure where that cannot be read."""
    if not file.is_file():
        return []
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        return [_line("lines of the section", "FAILED", f"{file.name} is no JSON: {error}")]


def _line(name: str, state: str, note: str) -> dict[str, Any]:
    return {"name": name, "state": state, "figure": "", "note": note}


def _tail(log: pathlib.Path) -> str:
    """The last lines that a command wrote, as one."""
    lines = log.read_text("utf-8", "replace").split("\n") if log.is_file() else []
    return " | ".join(line.strip() for line in lines if line.strip())[-300:]


if __name__ == "__main__":
    sys.exit(main())
