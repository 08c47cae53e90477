"""Plots: well-formed, repeatable, at home in a page of either colour scheme."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from aqua_jax.workloads import plots, records
from tests.workloads import synthetic


def _runs():
    return [synthetic.run("fcfs", first_token_seconds=4.0), synthetic.run("cfs & co")]


def test_arms_have_colours_of_their_own_in_order():
    colours = plots.arm_colours([f"arm {i}" for i in range(8)])
    assert len(set(colours.values())) == 8
    assert plots.arm_colours(["arm 0"])["arm 0"] == colours["arm 0"]


def test_plots_are_well_formed_and_take_their_ink_from_the_page():
    drawn = plots.render(_runs())
    assert [plot.title for plot in drawn] == [
        "Time to first token",
        "Tokens per second",
        "Sessions over time",
        "Memory by tier",
    ]
    for plot in drawn:
        assert ElementTree.fromstring(plot.svg).tag == "svg"
        assert "var(--ink)" in plot.svg or "var(--muted)" in plot.svg
        assert not re.search(r"#0a0b0c|#1a1b1c|#2a2b2c|http", plot.svg)
        assert "cfs &amp; co" in plot.svg


def test_ids_of_plots_are_distinct_and_references_lead_somewhere():
    svgs = "".join(plot.svg for plot in plots.render(_runs()))
    ids = re.findall(r'\bid="([^"]*)"', svgs)
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:href="|url\()#([^")]*)', svgs)
    assert references
    assert set(references) <= set(ids)


def test_the_same_records_give_the_same_bytes():
    assert plots.render(_runs()) == plots.render(_runs())


def test_the_curve_ends_below_all_when_requests_got_no_token():
    run = synthetic.run("fcfs")
    assert plots._ttfts(run).tolist() == [1.0, 1.0, 1.0, 1.0]
    run.requests[1].first_token_at = None
    run.requests[0].first_token_at = run.requests[0].scheduled_at
    assert plots._ttfts(run).tolist() == [1e-4, 1.0, 1.0]


def test_what_has_no_data_is_not_drawn():
    empty = records.RunRecord(arm="a", evidence="measured")
    assert plots.render([empty]) == []
    unsampled = synthetic.run("b")
    unsampled.samples = []
    assert [plot.title for plot in plots.render([unsampled])] == ["Time to first token"]
    assert len(plots.render([empty, synthetic.run("c")])) == 4
