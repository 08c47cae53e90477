"""The door as a user finds it: subprocesses, their words, their exit codes, their files."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import time

import matplotlib
import pytest

from aqua_jax import run
from aqua_jax.simulation import profile
from aqua_jax.workloads import report
from tests.experiments import tiny

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMOKE = "--config=configs/smoke.py"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "COLUMNS")},
    "JAX_PLATFORMS": "cpu",
    # Programs of runs before, small ones too: a machine has some seventy.
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "PYTHONUNBUFFERED": "1",
    # Speeds of links apart from the user's; matplotlib's fonts stay where they were found.
    "XDG_CACHE_HOME": str(ROOT / ".jax_cache" / "links"),
    "MPLCONFIGDIR": matplotlib.get_cachedir(),
}
STOP_SECONDS = 2.0
START_SECONDS = 60.0


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The door with these arguments, its two outputs in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "aqua_jax.run", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def door(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """(exit code, output, errors) of the door once it has ended."""
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
TRACES = {
    "column.csv": "TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,10\n",
    "line.csv": AZURE + "2023-11-16 18:15:46,10,20\n2023-11-16 18:15:47,many,20\n",
    "short.csv": AZURE + "2023-11-16 18:15:46,10,20\n",
}
BAD_CONFIG = "import ml_collections\n\ndef get_config(:\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Files that are wrong, for all cases together."""
    made = tmp_path_factory.mktemp("door")
    for name, text in TRACES.items():
        (made / name).write_text(text)
    (made / "bad.py").write_text(BAD_CONFIG)
    return made


WRONG = {
    "no flags": ([], "--config is missing: give a file, --config=configs/burst.py"),
    "no config": (["--workdir=W"], "--config is missing: give a file"),
    "no workdir": ([SMOKE], "--workdir is missing: give a folder"),
    "config not there": (["--config=configs/smok.py", "--workdir=W"], "'configs/smoke.py'?"),
    "config broken": (["--config=F/bad.py", "--workdir=W"], "F/bad.py, line 3: invalid syntax"),
    "workdir a file": ([SMOKE, "--workdir=F/bad.py"], "F/bad.py is a file; give a folder"),
    "parent a file": ([SMOKE, "--workdir=F/bad.py/x"], "F/bad.py is a file; give a folder"),
    "positional": ([SMOKE, "--workdir=W", "more"], "unexpected argument 'more': expected --conf"),
    "unknown flag": ([SMOKE, "--wrkdir=W"], "'--wrkdir=W': did you mean --workdir?"),
    "unknown head": (
        [SMOKE, "--workdir=W", "--config.polcy.name=x"],
        "unknown setting --config.polcy.name: the config has no 'polcy' (did you mean 'policy'?)",
    ),
    "unknown key": (
        [SMOKE, "--workdir=W", "--config.policy.nam=x"],
        "unknown setting --config.policy.nam: policy has no 'nam' (did you mean 'name'?)",
    ),
    "no number": (
        [SMOKE, "--workdir=W", "--config.policy.quantum_tokens=abc"],
        "--config.policy.quantum_tokens=abc: expected a whole number",
    ),
    "too small": (
        [SMOKE, "--workdir=W", "--config.policy.quantum_tokens=0"],
        "policy.quantum_tokens is 0; give at least 1",
    ),
    "negative": ([SMOKE, "--workdir=W", "--config.workload.rate=-2"], "workload.rate is -2.0;"),
    "not a number": (
        [SMOKE, "--workdir=W", "--config.workload.temperature=nan"],
        "workload.temperature is nan; give a number of at least 0",
    ),
    "unknown policy": (
        [SMOKE, "--workdir=W", "--config.policy.name=csf"],
        "unknown policy.name 'csf' (did you mean 'cfs'?)",
    ),
    "unknown arm": (
        [SMOKE, "--workdir=W", "--config.arms=fcfs,cfs_pear"],
        "unknown arm 'cfs_pear' (did you mean 'cfs_peer'?)",
    ),
    "unknown mover": (
        [SMOKE, "--workdir=W", "--config.memory.mover=xlb"],
        "unknown memory.mover 'xlb' (did you mean 'xla'?)",
    ),
    "without effect": (
        [SMOKE, "--workdir=W", "--config.arms=fcfs", "--config.policy.name=cfs"],
        "--config.policy.name has no effect",
    ),
    "no trace": (
        [SMOKE, "--workdir=W", "--config.workload.trace=F/none.csv"],
        "F/none.csv: No such file or directory: expected a trace file",
    ),
    "trace lacks a column": (
        [SMOKE, "--workdir=W", "--config.workload.trace=F/column.csv"],
        "F/column.csv, line 1: found columns TIMESTAMP, ContextTokens; expected also Generated",
    ),
    "trace line": (
        [SMOKE, "--workdir=W", "--config.workload.trace=F/line.csv"],
        "F/line.csv, line 3: found prompt length 'many'; expected a whole number of tokens",
    ),
    "trace too short": (
        [SMOKE, "--workdir=W", "--config.workload.trace=F/short.csv"],
        "a window of 16 requests does not fit: the trace has 1",
    ),
    "profile without a pass": (
        ["--config=configs/calibrate.py", "--workdir=W", "--config.repeats=0"],
        "repeats is 0; give at least 1",
    ),
    "profile of an unknown arm": (
        ["--config=configs/calibrate.py", "--workdir=W", "--config.arms=cfs_pear"],
        "unknown arm 'cfs_pear' (did you mean 'cfs_peer'?)",
    ),
}


@pytest.fixture
def signals_restored():
    """The door sets a handler; the test's process gets its own back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("signals_restored")
@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_before_anything_is_compiled_or_written(
    case, folder, tmp_path, capsys, monkeypatch
):
    arguments, text = WRONG[case]
    workdir = tmp_path / "made" / "later"

    def placed(words: str) -> str:
        return words.replace("=W", f"={workdir}").replace("F/", f"{folder}/")

    monkeypatch.chdir(ROOT)
    with tiny.count_compilations() as compiled:
        code = run.main([placed(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("aqua_jax.run: ")
    assert placed(text) in err
    assert not compiled
    assert not workdir.parent.exists()


def test_wrong_input_is_an_exit_code_and_no_traceback(tmp_path):
    code, out, err = door(SMOKE, f"--workdir={tmp_path / 'new'}", "--config.polcy.name=x")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"aqua_jax\.run: unknown setting .*did you mean 'policy'.*\n", err)
    assert not list(tmp_path.iterdir())


WITHOUT_LIBRARY = """
import pathlib

from aqua_jax.memory import native
from configs import smoke

native.library_path = lambda platform: pathlib.Path("nowhere", platform)
get_config = smoke.get_config
"""


@pytest.fixture
def without_library(tmp_path: pathlib.Path) -> str:
    """The smoke config on a machine that has no native library."""
    file = tmp_path / "without_library.py"
    file.write_text(WITHOUT_LIBRARY)
    return f"--config={file}"


@pytest.mark.parametrize("setting", ["mover=ffi", "attention=native"])
def test_what_is_native_and_not_built_is_refused_with_how_to_build_it(
    setting, without_library, tmp_path
):
    workdir = tmp_path / "new"
    code, out, err = door(without_library, f"--workdir={workdir}", f"--config.memory.{setting}")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"memory.{setting}: the native library for cpu is not built" in err
    assert "`make native`" in err
    assert not workdir.exists()


def test_without_the_library_everything_runs_through_xla_and_that_is_said_once(
    without_library, tmp_path
):
    workdir = tmp_path / "new"
    code, out, err = door(without_library, f"--workdir={workdir}", "--config.arms=cfs_host")
    assert (code, err) == (0, "")
    plain = " ".join(out.split())
    assert plain.count("memory.mover=xla, memory.attention=xla, engine.linear=xla: the native") == 1
    assert plain.index("memory.mover=xla") < plain.index("compiling")
    value = json.loads((workdir / "report.json").read_text())
    assert value["data_path"]["memory.mover=auto"]["used"] == "xla"
    assert "make native" in value["data_path"]["memory.attention=auto"]["because"]
    assert value["arms"]["cfs_host"]["paged_bytes"]["out"]["host"] > 0


def test_a_link_below_the_floor_is_refused_aloud_and_the_run_goes_on(tmp_path):
    code, out, err = door(
        SMOKE,
        f"--workdir={tmp_path}",
        "--config.arms=cfs_host",
        "--config.memory.pool_pages=400",  # of 4 KiB: enough for the floor to say something
        "--config.arm_settings.cfs_host.memory.tiers.host.bytes=2000000",
        "--config.memory.link_floor_gbps=1e6",
    )
    assert (code, err) == (0, "")
    plain = " ".join(out.split())
    assert re.search(r"device->host [\d.]+ µs ([\d.]+ [GM]B/s ){4}(yes|no)", plain)
    assert plain.count("tier host is left out of all arms: device->host by the") == 1
    assert "below memory.link_floor_gbps=1e+06" in plain
    value = json.loads((tmp_path / "report.json").read_text())
    report.check(value)
    assert value["links"]["device->host"]["wrong_bytes"] == 0
    assert value["data_path"]["memory.tiers.host"]["used"] == "left out of all arms"
    assert value["arms"]["cfs_host"]["paged_bytes"]["out"]["host"] == 0
    assert value["arms"]["cfs_host"]["finished"] == 16


def test_help_is_readable_and_no_error():
    code, out, err = door("--help")
    assert (code, err) == (0, "")
    assert "--config=configs/burst.py --workdir=" in out
    assert "--config.policy.NAME=VALUE" in out
    assert "quantum_tokens: the least service" in out
    assert max(map(len, out.splitlines())) <= 100


def test_smoke_runs_and_its_tables_fit_the_terminal(tmp_path):
    code, out, err = door(SMOKE, f"--workdir={tmp_path}", COLUMNS="80")
    assert (code, err) == (0, "")
    assert re.search(r"all\s16\sanswers\sare\sidentical", out)
    tables = out[out.index("Arms (measured)") : out.index("report: ")]
    assert max(len(line.rstrip()) for line in tables.splitlines()) <= 80
    assert "…" not in out
    assert re.search(r"Requests +16 +16 +16", out)
    assert re.search(r"Throughput( +[\d,.]+ tok/s){3}", out)
    value = json.loads((tmp_path / "report.json").read_text())
    report.check(value)
    assert {arm["finished"] for arm in value["arms"].values()} == {16}
    assert value["arms"]["fcfs"]["recomputed_tokens"] > 0
    assert len(value["hardware"]["devices"]) == 2
    stages = ["import", "devices", "weights", "programs", "links", "first token"]
    assert list(value["startup"]) == stages
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "report.html",
        "report.json",
        "trace.json",
    ]


def test_repeats_run_on_one_machine_and_show_every_seed_with_the_median(tmp_path):
    code, out, err = door(
        SMOKE, f"--workdir={tmp_path}", "--config.repeats=2", "--config.arms=fcfs,cfs_host"
    )
    assert (code, err) == (0, "")
    assert out.count("compiling") == 1
    assert re.search(r"ttft_p99_ratio: \d+\.\d+, \d+\.\d+; median \d+\.\d+", out)
    seeds = {folder.name for folder in tmp_path.iterdir()}
    assert seeds == {"seed0", "seed1"}
    assert all((tmp_path / seed / "report.html").is_file() for seed in seeds)


TINY_PROFILE = """
from aqua_jax.experiments import overrides, profile_bench
from configs import smoke

def get_config():
    small = overrides.experiment(smoke.get_config())
    settings = profile_bench.ProfileBenchmark(experiment=small, repeats=1)
    return overrides.benchmark_config_dict(settings)
"""


def test_a_profile_is_written_beside_its_report_and_can_be_read(tmp_path):
    config, workdir = tmp_path / "tiny.py", tmp_path / "out"
    config.write_text(TINY_PROFILE)
    code, out, err = door(f"--config={config}", f"--workdir={workdir}")
    assert (code, err) == (0, "")
    assert "pass 1 of 1" in out
    assert f"profile: {workdir / 'profile.json'}" in out
    found = profile.load(workdir / "profile.json")
    value = json.loads((workdir / "report.json").read_text())
    report.check(value)
    assert value["benchmark"]["slices"]["fitted"] == found.fit.slices
    assert found.peer is not None
    assert found.host is not None


LONG = ("--config.workload.requests=4000", "--config.workload.rate=100")
CALIBRATING = ("--config.workload.rate=0", "--config.workload.calibration_seconds=60")


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Reads the output up to a line with `text`."""
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    for line in process.stdout:
        if text in line:
            return
        assert time.monotonic() < deadline
    raise AssertionError(f"ended without {text!r}: {process.communicate()}")


def interrupt(process: subprocess.Popen[str]) -> tuple[float, str]:
    """(seconds to its end, what it said last) after Ctrl-C."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return time.monotonic() - began, err


@pytest.mark.parametrize("phase", ["compiling", "calibrating"])
def test_ctrl_c_before_the_first_arm_ends_at_once_and_writes_nothing(phase, tmp_path):
    flags, environment = CALIBRATING, {}
    if phase == "compiling":  # without a cache, so that it does
        environment = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    process = start(SMOKE, f"--workdir={tmp_path / 'out'}", *LONG, *flags, **environment)
    read_until(process, phase)
    time.sleep(0.4)
    assert process.poll() is None
    seconds, err = interrupt(process)
    assert process.returncode == 130
    assert err == "aqua_jax.run: interrupted\n"
    assert seconds < STOP_SECONDS
    assert not (tmp_path / "out").exists()


def test_ctrl_c_in_an_arm_reports_what_had_begun(tmp_path):
    process = start(SMOKE, f"--workdir={tmp_path}", *LONG)
    read_until(process, "fcfs: 0/4000 finished")
    time.sleep(1.0)
    seconds, err = interrupt(process)
    assert process.returncode == 130, err
    assert err == ""
    assert seconds < STOP_SECONDS
    value = json.loads((tmp_path / "report.json").read_text())
    report.check(value)
    assert list(value["arms"]) == ["fcfs"]
    assert value["arms"]["fcfs"]["interrupted"] is True
    assert 0 < value["arms"]["fcfs"]["finished"] < 4000
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "report.html",
        "report.json",
        "trace.json",
    ]


def test_a_second_ctrl_c_does_not_wait_and_leaves_the_terminal_whole(tmp_path):
    process, terminal = on_a_terminal(SMOKE, f"--workdir={tmp_path}", *LONG)
    shown = read_terminal(terminal, "/4000")
    assert HIDE_CURSOR in shown
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    shown += read_terminal(terminal)
    assert process.wait(timeout=60) == 130
    assert time.monotonic() - began < STOP_SECONDS
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)
    for file in tmp_path.glob("*.json"):  # whole, if there at all
        json.loads(file.read_text())


def test_on_a_terminal_the_arms_stay_on_screen_with_their_bars(tmp_path):
    process, terminal = on_a_terminal(SMOKE, f"--workdir={tmp_path}")
    shown = read_terminal(terminal)
    assert process.wait(timeout=60) == 0
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
    for arm in ("fcfs", "cfs_host", "cfs_peer"):
        assert re.search(rf"{arm} .*16/16.*first token max", shown), arm
    assert "…" not in shown


HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def on_a_terminal(*arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """The door with a terminal of 80 columns, and our end of it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aqua_jax.run", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT | {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    return process, ours


def read_terminal(terminal: int, text: str | None = None) -> str:
    """What is shown up to `text`, or to the end."""
    shown = ""
    deadline = time.monotonic() + START_SECONDS
    while text is None or text not in shown:
        assert time.monotonic() < deadline, shown
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            shown += os.read(terminal, 65_536).decode()
        except OSError:  # Linux says so when the other end is closed
            break
    return shown
