"""The benchmark of transfers copies what it says; what is timed is not judged here."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import transfer_bench
from aqua_jax.memory import arenas, native, native_arenas
from aqua_jax.memory.movers import ffi, xla
from tests.experiments import test_overlap_bench
from tests.memory import parts

SMALL = transfer_bench.TransferBenchmark(
    overlap=dataclasses.replace(test_overlap_bench.SMALL, rounds=1),
    page_kib="8,16",
    run_pages="2",
    plan_bytes=256 * 1024,
    repeats=1,
    pinned_rates="",
    unpinned_rates="",
)


@parts.needs_native
def test_every_row_has_both_directions_by_every_way() -> None:
    rows = dict(SMALL.rows())
    assert list(rows) == ["pages of 8 KiB", "pages of 16 KiB", "runs of 2 x 64 KiB"]
    for row in rows.values():
        for name in ("memcpy", "ffi", "xla", "layers"):
            rates = row[f"{name}_bytes_per_second"]
            assert list(rates) == ["out", "in"]
            assert min(rates.values()) > 0
        for title in ("ffi_share", "ffi_over_xla"):
            assert min(row[title].values()) > 0


@parts.needs_native
def test_each_mover_has_the_host_memory_that_a_run_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}

    def note(mover: Any) -> None:
        made = mover.__init__

        def init(self: Any, stores: Any, *rest: Any, **settings: Any) -> None:
            given[mover.__name__] = type(stores[1])
            made(self, stores, *rest, **settings)

        monkeypatch.setattr(mover, "__init__", init)

    note(ffi.FfiMover)
    note(xla.XlaMover)
    before = native.load().memory_live_bytes()
    assert len(list(dataclasses.replace(SMALL, page_kib="8", run_pages="").rows())) == 1
    assert given == {"FfiMover": native_arenas.NativeArena, "XlaMover": arenas.HostArena}
    assert native.load().memory_live_bytes() == before


@parts.needs_native
def test_decoding_is_measured_in_a_process_of_its_own() -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("XLA and the transfer thread need a core each")
    wanted = dataclasses.replace(SMALL, page_kib="", run_pages="", pinned_rates="0.02,0.04")
    rows = dict(wanted.rows())
    assert list(rows) == ["pinned, 0.02 GB/s", "pinned, 0.04 GB/s"]
    assert all(row["paged_bytes_per_second"] > 0 for row in rows.values())
    assert os.sched_getaffinity(0) == before


def test_the_runs_of_a_plan_touch_on_one_side_only() -> None:
    plan = transfer_bench.Runs(number=1, length=2, runs=3)
    out = [(move.source.index, move.target.index) for move in plan.moves("out")]
    assert out == [(7, 10), (8, 11), (9, 8), (10, 9), (11, 6), (12, 7)]
    assert [(m.target.index, m.source.index) for m in plan.moves("in")] == out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeats": 0}, "repeats is 0; give at least 1"),
        ({"page_kib": "64,12"}, "page_kib has 12; give multiples of 8"),
        ({"run_pages": "2,x"}, "run_pages is '2,x'; give numbers above 0"),
        ({"pinned_rates": "-1"}, "pinned_rates is '-1'; give numbers above 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        dataclasses.replace(SMALL, **changes)
