"""The door with a simulated experiment: its words, its exit codes, what Ctrl-C leaves."""

from __future__ import annotations

import json
import pathlib
import re
import time

import pytest

from aqua_jax import run
from aqua_jax.workloads import report
from tests import test_run as doors

CONFIG = """
from aqua_jax.experiments import overrides
from tests.experiments import imagined


def get_config():
    return overrides.simulated_config_dict(imagined.experiment(workers=2))
"""
TRACE = "req_time_s,client,prompt_len,output_len\n2,a,7,5\n1,b,8,5\n3,c,9,5\n"


@pytest.fixture
def config(tmp_path: pathlib.Path) -> str:
    """The flag of a small simulated experiment."""
    file = tmp_path / "imagined.py"
    file.write_text(CONFIG)
    return f"--config={file}"


WRONG = {
    "unknown hardware": ("device.hardware=H1000", "arm 'fcfs': unknown hardware 'H1000'"),
    "unknown model": ("device.model=Llama-3.1-7B", "unknown text model 'Llama-3.1-7B' (did"),
    "does not fit": ("device.model=Llama-3.1-70B", "short by"),
    "unknown policy": ("policy.name=csf", "unknown policy.name 'csf' (did you mean 'cfs'?)"),
    "unknown key": ("device.hardwar=H100", "device has no 'hardwar' (did you mean 'hardware'?)"),
    "rates": ("rates=2,x", "rates=2,x: 'x' is no rate"),
    "rate": ("workload.rate=2", "give --config.rates=2"),
    "no trace": ("workload.trace=none.csv", "none.csv: No such file or directory"),
    "too long": ("engine.units_max=100", "is over engine.units_max 100"),
    "profile without a field": ("device.hardware=F/less.json", "'memory_bytes'"),
    "negative bandwidth": ("device.hardware=F/negative.json", "bytes_per_second is -1"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Hardware files that are wrong."""
    made = tmp_path_factory.mktemp("hardware")
    catalogue = pathlib.Path(run.__file__).parent / "simulation" / "hardware.json"
    h100 = next(one for one in json.loads(catalogue.read_text()) if one["name"] == "H100")
    less = {name: value for name, value in h100.items() if name != "memory_bytes"}
    (made / "less.json").write_text(json.dumps(less))
    negative = h100 | {"pcie": h100["pcie"] | {"bytes_per_second": -1}}
    (made / "negative.json").write_text(json.dumps(negative))
    return made


@pytest.mark.usefixtures("signals_restored")
@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2(case, config, folder, tmp_path, capsys):
    setting, text = WRONG[case]
    arguments = [config, f"--workdir={tmp_path / 'new'}", f"--config.{setting}"]
    code = run.main([argument.replace("F/", f"{folder}/") for argument in arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    assert err.startswith("aqua_jax.run: ")
    assert text in err
    assert not (tmp_path / "new").exists()


signals_restored = doors.signals_restored


def test_a_sweep_runs_in_processes_and_writes_its_report(config, tmp_path):
    code, out, err = doors.door(config, f"--workdir={tmp_path / 'out'}", COLUMNS="100")
    assert (code, err) == (0, "")
    assert re.search(r"12/12 \w+, \d+ requests/s, seed [01]: first token max", out)
    assert "Medians over windows, 20 requests/s" in out
    assert "To the better baseline of each window, 6 requests/s" in out
    plain = " ".join(out.split())
    assert "all answers are identical in each of 4 windows" in plain
    value = json.loads((tmp_path / "out" / "report.json").read_text())
    report.check(value)
    assert value["evidence"] == "simulated"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "report.html",
        "report.json",
        "trace.json",
    }


def test_an_unsorted_trace_is_sorted_with_a_warning(config, tmp_path):
    trace = tmp_path / "vtc.csv"
    trace.write_text(TRACE)
    code, out, err = doors.door(
        config,
        f"--workdir={tmp_path / 'out'}",
        f"--config.workload.trace={trace}",
        "--config.workload.requests=3",
        "--config.rates=0",
        "--config.repeats=1",
        "--config.workers=1",
    )
    assert (code, err) == (0, "")
    assert "is not sorted by time: 1 of its 3 rows stand behind" in " ".join(out.split())
    value = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "1 of its 3 rows" in value["notes"][0]


def test_ctrl_c_reports_what_has_ended_and_leaves_no_process(config, tmp_path):
    # Two runs of eight hundred are those that are shown, and come first.
    process = doors.start(
        config,
        f"--workdir={tmp_path / 'out'}",
        "--config.rates=20,19",
        "--config.report.shown_rate=20",
        "--config.arms=fcfs,cfs_peer",
        "--config.workload.requests=300",
        "--config.repeats=200",
    )
    doors.read_until(process, "fcfs, 20 requests/s, seed 0")
    children = _descendants(process.pid)
    assert children
    seconds, err = doors.interrupt(process)
    assert (process.returncode, err) == (130, "")
    assert seconds < 10
    value = json.loads((tmp_path / "out" / "report.json").read_text())
    report.check(value)
    assert "fcfs" in value["arms"]
    deadline = time.monotonic() + 10
    while any(pathlib.Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.05)


def _descendants(pid: int) -> list[int]:
    """The processes below one, of all generations."""
    children: dict[int, list[int]] = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found
