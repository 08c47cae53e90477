"""Profiles: what is saved is what is read, and a file that is wrong is told of in one line."""

from __future__ import annotations

import json
import re

import pytest

from aqua_jax.control import errors
from aqua_jax.simulation import cost, profile

WAY = profile.Direction(latency_ns=90_000, bytes_per_second=12_000_000_000, error_median=0.05)
LINK = profile.Link(out=WAY, into=WAY)
PROFILE = profile.Profile(
    cost=cost.SliceCost(
        dispatch_ps=200_000_000,
        program_ps=0,
        chunk_ps=3_000_000_000,
        row_ps=80_000_000,
        row_context_ps=400_000,
        step_ps=2_500_000_000,
        lane_ps=60_000_000,
        context_ps=900_000,
        overlaps=False,
        fuses=False,
    ),
    fit=profile.Fit(slices=200, outliers=3, error_median=0.04, error_p90=0.1, error_total=-0.02),
    overhead=profile.Overhead(dispatch_ns=1_500_000, copy_ns=100_000, read_ns=300_000),
    ahead_ns=4_000_000,
    page_bytes=65_536,
    peer=None,
    host=LINK,
    measured_on={"cpu": "two cores"},
)


def test_what_is_saved_is_what_is_read(tmp_path):
    path = tmp_path / "new" / "profile.json"
    profile.save(PROFILE, path)
    assert profile.load(path) == PROFILE
    assert profile.load(path).measured_on == PROFILE.measured_on


def test_a_link_that_was_not_measured_is_told_of():
    assert PROFILE.link("host") is LINK
    with pytest.raises(errors.ConfigError, match="no link of kind 'peer': calibrate an arm with"):
        PROFILE.link("peer")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda v: v.pop("overhead"), "lacks 'overhead'; expected an object"),
        (lambda v: v["cost"].pop("row_ps"), "cost: lacks 'row_ps'; expected a whole number"),
        (lambda v: v["cost"].update(step_ps=-1), "cost: step_ps is -1; expected a number at least"),
        (lambda v: v["host"]["out"].update(bytes_per_second=0), "bytes_per_second is 0; expected"),
        (lambda v: v["overhead"].update(read_ns=-5), "overhead: read_ns is -5; expected a number"),
        (lambda v: v.update(pear=None), "unknown field 'pear' (did you mean 'peer'?)"),
        (lambda v: v.update(page_bytes=0), "page_bytes is 0; expected a number above 0"),
        (lambda v: v.update(ahead_ns=1.5), "ahead_ns is 1.5; expected a whole number"),
    ],
)
def test_a_file_that_is_wrong_is_told_of_in_one_line(tmp_path, change, text):
    path = tmp_path / "profile.json"
    profile.save(PROFILE, path)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(errors.ConfigError, match=re.escape(text)) as raised:
        profile.load(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_told_of(tmp_path):
    with pytest.raises(errors.ConfigError, match=r"none\.json: No such file or directory"):
        profile.load(tmp_path / "none.json")
