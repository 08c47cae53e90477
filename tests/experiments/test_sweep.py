"""A sweep from settings to report: the same for any number of processes."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import sweep
from aqua_jax.workloads import report
from tests.experiments import imagined


def run(stop_after: int | None = None, **changes) -> sweep.Result:
    made = sweep.Sweep(imagined.experiment(**changes))
    ended = []
    return made.run(
        on_done=ended.append, stopped=lambda: stop_after is not None and len(ended) >= stop_after
    )


@pytest.fixture(scope="module")
def whole() -> sweep.Result:
    return run()


def figures(value):
    return {name: value[name] for name in ("arms", "comparisons", "sweep", "runs")}


def test_every_arm_ran_every_window_at_every_rate(whole):
    value = whole.value
    report.check(value)
    assert value["evidence"] == "simulated"
    assert list(value["sweep"]) == ["6 requests/s", "20 requests/s"]
    assert list(value["runs"]) == [
        f"{rate} requests/s, seed {seed}" for rate in (6, 20) for seed in (0, 1)
    ]
    for arms in value["runs"].values():
        assert list(arms) == list(imagined.ARMS)
        assert len({arm["token_ids_sha256"] for arm in arms.values()}) == 1
        assert {arm["finished"] for arm in arms.values()} == {30}
    assert value["arms"] == value["runs"]["20 requests/s, seed 0"]
    assert [run.arm for run in whole.runs] == list(imagined.ARMS)
    assert "20 requests/s, the window of seed 0" in value["notes"][0]


def test_figures_do_not_depend_on_the_processes(whole):
    """In two processes they end in another order."""
    assert figures(run(workers=2).value) == figures(whole.value)


def test_one_window_at_one_rate_is_an_ordinary_report():
    value = run(rates="20", repeats=1, arms="fcfs,cfs_peer").value
    assert not {"sweep", "runs", "notes"} & set(value)
    assert list(value["comparisons"]) == ["cfs_peer/fcfs"]
    assert set(value["host"]) == {"fcfs", "cfs_peer"}


def test_a_stop_reports_what_has_ended(whole):
    result = run(stop_after=2)
    assert result.interrupted
    assert result.value is not None
    assert list(result.value["arms"]) == ["fcfs", "cfs_peer"]
    assert result.value["arms"]["fcfs"] == whole.value["arms"]["fcfs"]


def test_a_stop_before_anything_ended_reports_nothing():
    result = run(stop_after=0)
    assert result.value is None
    assert result.interrupted


def test_what_all_arms_share_no_arm_may_set():
    arms = {"a": {"policy": {"name": "fcfs"}}, "b": {"workload": {"requests": 3}}}
    with pytest.raises(errors.ConfigError, match="arm 'b' sets workload: all arms share it"):
        sweep.Sweep(imagined.experiment(arm_settings=arms))


def test_times_of_a_trace_need_a_trace():
    with pytest.raises(errors.ConfigError, match=r"workload.trace is empty: give a trace"):
        sweep.Sweep(imagined.experiment(rates=""))


def test_a_trace_keeps_its_own_times_and_unsorted_ones_are_told(tmp_path):
    path = tmp_path / "vtc.csv"
    rows = ["3,a,70,5", "1,b,80,5", "2,c,90,5"]
    path.write_text("\n".join(["req_time_s,client,prompt_len,output_len", *rows]) + "\n")
    changes = {"workload__trace": str(path), "workload__requests": 3, "rates": "0", "repeats": 1}
    made = sweep.Sweep(imagined.experiment(**changes))
    assert [one.at_seconds for one in made.jobs[0].arrivals] == [0.0, 1.0, 2.0]
    result = made.run(on_done=lambda done: None, stopped=lambda: False)
    assert "2 of its 3 rows stand behind a later one" in result.value["notes"][0]
    assert set(result.value["tenants"]["fcfs"]) == {"a", "b", "c"}


def test_files_are_written(whole, tmp_path):
    paths = whole.write(tmp_path)
    assert set(paths) == {"report.json", "report.html", "trace.json"}
    assert "Rates and windows" in paths["report.html"].read_text()
