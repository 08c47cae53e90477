"""Plots of lenders: there when something was lent or made."""

from __future__ import annotations

import array

from aqua_jax.workloads import lender_plots, records


def run(arm: str, *, lent: int, items: int) -> records.RunRecord:
    made = records.RunRecord(arm, "simulated")
    made.lenders["images"] = records.LenderRecord(
        "SDXL",
        at_seconds=array.array("d", [0.0, 1.0, 2.0]),
        offered_bytes=array.array("q", [0, lent, lent]),
        held_bytes=array.array("q", [0, 0, lent]),
        items_done_at=array.array("d", range(items)),
        items_seconds=array.array("d", [1.5] * items),
    )
    return made


def test_memory_has_a_plot_for_each_arm_that_lends_and_items_one_for_all():
    runs = [run("alone", lent=0, items=3), run("lends", lent=10**9, items=3)]
    drawn = lender_plots.render(runs)
    assert [plot.title for plot in drawn] == ["Memory lent, lends", "Lenders' own work"]
    assert all(">images (SDXL)</text>" in plot.svg for plot in drawn)
    assert ">alone</text>" in drawn[1].svg
    assert ">lends</text>" in drawn[1].svg


def test_without_lenders_there_is_nothing_to_draw():
    assert lender_plots.render([records.RunRecord("arm", "simulated")]) == []
    assert lender_plots.render([run("idle", lent=0, items=0)]) == []
