"""Fits: coefficients that are known come back, and the profiles agree with recorded copies."""

from __future__ import annotations

import random
import statistics

import pytest

from aqua_jax.control import errors
from aqua_jax.simulation import cost, fits, hardware

MIB = 1 << 20
TRUE = cost.SliceCost(
    dispatch_ps=300_000_000,
    program_ps=0,
    chunk_ps=5_000_000_000,
    row_ps=100_000_000,
    row_context_ps=100_000,
    step_ps=8_000_000_000,
    lane_ps=200_000_000,
    context_ps=1_000_000,
    overlaps=False,
    fuses=False,
)


def timed(count, *, noise=0.0, seed=3):
    """Slices that cost what TRUE says, give or take up to `noise` of it."""
    draws = random.Random(seed)
    slices = []
    for number in range(count):
        rows = draws.randrange(1, 256) if number % 2 else 0
        chunks, first = -(-rows // 64), draws.randrange(500)
        steps, lanes = draws.randrange(9), draws.randrange(1, 17)
        step_context = steps * lanes * draws.randrange(50, 900)
        work = cost.Work(
            chunks, chunks * first, rows, rows * first, steps, steps * lanes, step_context
        )
        seconds = TRUE.picoseconds(work) / 1e12
        slices.append(fits.Slice(work, seconds * (1 + noise * (2 * draws.random() - 1))))
    return slices


def test_exact_times_give_the_coefficients_back():
    estimate = fits.slice_cost(timed(40))
    for name, value in TRUE.to_json().items():
        assert getattr(estimate.cost, name) == pytest.approx(value, rel=1e-4), name
    assert estimate.error_p90 < 1e-6
    assert estimate.outliers == 0


def test_hiccups_do_not_move_the_fit():
    slices = timed(120, noise=0.05)
    calm = fits.slice_cost(slices)
    for number in (0, 60, 61):
        slices[number] = slices[number]._replace(seconds=slices[number].seconds * 40)
    shaken = fits.slice_cost(slices)
    assert shaken.outliers == 3
    assert abs(shaken.error_total) < 0.02
    others = [one for number, one in enumerate(slices) if number not in (0, 60, 61)]
    for one in others:
        before, after = (fit.cost.picoseconds(one.work) for fit in (calm, shaken))
        assert after == pytest.approx(before, rel=0.04)


def test_a_fit_predicts_slices_that_it_has_not_seen():
    estimate = fits.slice_cost(timed(100, noise=0.1))
    unseen = timed(100, noise=0.1, seed=4)
    predicted = [estimate.cost.picoseconds(one.work) / 1e12 for one in unseen]
    wrong = [abs(p / one.seconds - 1) for p, one in zip(predicted, unseen, strict=True)]
    assert statistics.median(wrong) < 0.07
    assert sum(predicted) == pytest.approx(sum(one.seconds for one in unseen), rel=0.03)


def test_coefficients_are_never_negative():
    """Times that fall with the number of lanes would ask for it."""
    slices = [
        fits.Slice(cost.Work(n % 3, 0, 16 * (n % 3), 0, 2, 2 * n, 0), 0.01 - 0.0001 * n + n % 3)
        for n in range(1, 20)
    ]
    estimate = fits.slice_cost(slices)
    assert estimate.cost.lane_ps == 0


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ([], "0 slices; expected at least 7, one for each coefficient"),
        ([one._replace(seconds=0.0) for one in timed(10)], "a slice that took no time"),
        (
            [fits.Slice(cost.Work(0, 0, 0, 0, 1, n, n), 1.0) for n in range(1, 10)],
            "no slice has prefill rows",
        ),
        (
            [fits.Slice(cost.Work(1, 0, n, n, 0, 0, 0), 1.0) for n in range(1, 10)],
            "no slice has steps",
        ),
    ],
)
def test_slices_that_tell_too_little_are_refused(slices, message):
    with pytest.raises(errors.ConfigError, match=message):
        fits.slice_cost(slices)


def test_a_link_is_found_again():
    copies = [fits.Copy(size, 8e-6 + size / 350e9) for size in (4096, MIB, 4 * MIB, 64 * MIB)]
    estimate = fits.link(copies)
    assert estimate.latency_seconds == pytest.approx(8e-6, rel=1e-6)
    assert estimate.bytes_per_second == pytest.approx(350e9, rel=1e-6)
    assert estimate.error_max < 1e-6
    assert estimate.fit(700e9) == hardware.LinkFit(8000, 350_000_000_000, 700_000_000_000)


def test_many_small_copies_do_not_outvote_large_ones():
    """Small copies at another pace, a hundred to one: each octave of sizes has one vote."""
    large = [fits.Copy(size * MIB, 8e-6 + size * MIB / 350e9) for size in (16, 32, 64, 128)]
    small = [fits.Copy(4096 + n, 12e-6) for n in range(1000)]
    once = fits.link([*large, *small[:1]])
    assert fits.link(large + small).bytes_per_second == pytest.approx(
        once.bytes_per_second, rel=1e-3
    )
    assert once.bytes_per_second == pytest.approx(350e9, rel=0.04)
    assert fits.link(large + small, bytes_min=MIB).latency_seconds == pytest.approx(8e-6)


@pytest.mark.parametrize(
    ("copies", "message"),
    [
        ([], "copies of 0 sizes"),
        ([fits.Copy(MIB, 1e-5)] * 3, "copies of 1 sizes"),
        ([fits.Copy(MIB, 1e-5), fits.Copy(2 * MIB, 0.0)], "in no time"),
        ([fits.Copy(MIB, 2e-5), fits.Copy(2 * MIB, 1e-5)], "larger copies took no longer"),
    ],
)
def test_copies_that_tell_too_little_are_refused(copies, message):
    with pytest.raises(errors.ConfigError, match=message):
        fits.link(copies)


@pytest.mark.parametrize(
    ("name", "table", "error_median", "error_max"),
    [
        ("A100-80G", "vidur_p2p_send_recv_a100_dgx.csv", 0.11, 0.20),
        ("H100", "vidur_p2p_send_recv_h100_dgx.csv", 0.02, 0.16),
    ],
)
def test_profiles_agree_with_the_recorded_copies(traces_dir, name, table, error_median, error_max):
    copies = fits.read_copies(traces_dir / table)
    assert len(copies) == 994
    link = hardware.load(name).nvlink
    assert link is not None
    estimate = fits.link(copies, bytes_min=MIB)
    assert link.latency_ns == pytest.approx(estimate.latency_seconds * 1e9, rel=0.01)
    assert link.bytes_per_second == pytest.approx(estimate.bytes_per_second, rel=0.01)
    wrong = [
        abs(link.nanoseconds(copy.bytes) / (copy.seconds * 1e9) - 1)
        for copy in copies
        if copy.bytes >= MIB
    ]
    assert statistics.median(wrong) <= error_median
    assert max(wrong) <= error_max


def test_a_table_that_is_wrong_is_named(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(errors.ConfigError, match=r"table\.csv: No such file"):
        fits.read_copies(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(errors.ConfigError, match=r"table\.csv: 'size' is not in list; expected"):
        fits.read_copies(path)
    header = "time_stats.send_recv.median,size,devices_per_node\n"
    path.write_text(f"{header}0.1,many,2\n")
    with pytest.raises(errors.ConfigError, match=r"table\.csv: .*; expected a table with numbers"):
        fits.read_copies(path)
    path.write_text(f"{header}0.1,1024,1\n")
    with pytest.raises(errors.ConfigError, match="no row with devices_per_node 2"):
        fits.read_copies(path)
    path.write_text(f"{header}0.2,2048,2\n0.1,1024,2\n")
    assert fits.read_copies(path) == [fits.Copy(1024, 1e-4), fits.Copy(2048, 2e-4)]
