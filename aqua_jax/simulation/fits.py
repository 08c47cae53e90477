"""Coefficients from measurements: a link's from timed copies, a slice cost's from timed slices.

Knows: numpy, least squares, the table of copies that `read_copies` reads. Does
not know: who measured, devices, files of hardware.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib
import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aqua_jax.control import errors
from aqua_jax.simulation import cost, hardware

# Columns of microsoft/vidur's tables of NCCL send/recv; milliseconds, bytes, devices of a server.
_SECONDS, _BYTES, _DEVICES = "time_stats.send_recv.median", "size", "devices_per_node"
_SAME_SERVER = 2  # both ends on one server: over NVLink
_PICOSECONDS = 1e12  # of a second

_COEFFICIENTS = 7
_ROUNDS = 30  # of reweighting; it settles within ten
_OUTLIER_DEVIATIONS = 3.0  # residuals beyond so many standard deviations lose weight
_OUTLIER_WEIGHT = 0.5  # one that counts for less is an outlier
_NORMAL_MAD = 1.4826  # standard deviations of a normal distribution in its median deviation
_ROUNDING = 1e-9  # residuals of this part of a time are no deviation but arithmetic


class Copy(NamedTuple):
    """One timed copy, or the median of several."""

    bytes: int
    seconds: float


class Slice(NamedTuple):
    """One timed slice."""

    work: cost.Work
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class LinkEstimate:
    """t = latency_seconds + bytes / bytes_per_second; relative errors over the copies it is of."""

    latency_seconds: float
    bytes_per_second: float
    error_median: float
    error_max: float

    def fit(self, duplex_bytes_per_second: float) -> hardware.LinkFit:
        """As a profile has it. A rate of both ways together comes from a measurement of its own."""
        return hardware.LinkFit(
            round(self.latency_seconds * 1e9),
            round(self.bytes_per_second),
            round(duplex_bytes_per_second),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class CostEstimate:
    """A cost, and its relative errors over the slices it is of.

    outliers: slices that counted for less than half. error_total: predicted over measured
    seconds of all others together, less 1.
    """

    cost: cost.SliceCost
    error_median: float
    error_p90: float
    error_total: float
    outliers: int


def read_copies(path: pathlib.Path) -> list[Copy]:
    """The copies within a server of a vidur table of NCCL send/recv, by size.

    Raises ConfigError for a file without the columns, and for one without such copies.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), [])
            columns = [header.index(name) for name in (_BYTES, _SECONDS, _DEVICES)]
            table = np.loadtxt(file, delimiter=",", usecols=columns, ndmin=2)
    except OSError as error:
        raise errors.ConfigError(f"{path}: {error.strerror}; expected a table of copies") from None
    except ValueError as error:
        raise errors.ConfigError(
            f"{path}: {error}; expected a table with numbers under {_BYTES}, {_SECONDS}"
            f" and {_DEVICES}"
        ) from None
    near = table[table[:, 2] == _SAME_SERVER]
    if not len(near):
        raise errors.ConfigError(f"{path}: no row with {_DEVICES} {_SAME_SERVER}; expected some")
    return sorted(Copy(int(size), float(ms) / 1e3) for size, ms, _ in near)


def link(copies: Sequence[Copy], *, bytes_min: int = 0) -> LinkEstimate:
    """Least squares of relative errors, in which each octave of sizes counts the same.

    So neither the long times of large copies nor a table that has most of its rows at one end
    decides alone. bytes_min: smaller copies are left out; a library may send them by another
    protocol, and nobody pages so little. Raises ConfigError when the copies do not tell.
    """
    used = [copy for copy in copies if copy.bytes >= bytes_min]
    if len({copy.bytes for copy in used}) < 2:
        raise errors.ConfigError(
            f"copies of {len({copy.bytes for copy in used})} sizes from {bytes_min} bytes;"
            " expected at least 2 sizes to tell latency from rate"
        )
    if not all(0 < copy.seconds < math.inf and copy.bytes > 0 for copy in used):
        raise errors.ConfigError("a copy of no bytes or in no time; expected both above 0")
    sizes = np.array([copy.bytes for copy in used], float)
    seconds = np.array([copy.seconds for copy in used])
    octaves = np.floor(np.log2(sizes)).astype(int)
    weights = 1 / np.sqrt(np.bincount(octaves)[octaves])
    terms = np.stack([np.ones_like(sizes), sizes], 1) / seconds[:, None]
    found = _non_negative(terms * weights[:, None], weights)
    latency, pace = found.tolist()
    if pace == 0:
        raise errors.ConfigError("larger copies took no longer; expected times that grow with size")
    relative = np.abs(terms @ found - 1)
    return LinkEstimate(latency, 1 / pace, float(np.median(relative)), float(relative.max()))


def slice_cost(slices: Sequence[Slice]) -> CostEstimate:
    """A cost whose parts add up (`overlaps` false), by non-negative least squares.

    A slice's variance is taken to grow with its time, as if its steps varied independently.
    Residuals beyond 3 deviations, such as the hiccup of a first slice, count by 3 / their
    deviations only (Huber's weights), the deviation being had from the median, which they do
    not move. Raises ConfigError when there is no prefill, no step, or too little of either.
    """
    if len(slices) < _COEFFICIENTS:
        raise errors.ConfigError(
            f"{len(slices)} slices; expected at least {_COEFFICIENTS}, one for each coefficient"
        )
    if not all(0 < one.seconds < math.inf for one in slices):
        raise errors.ConfigError("a slice that took no time; expected seconds above 0")
    terms = np.array([_terms(one.work) for one in slices], float)
    for column, what in ((2, "prefill rows"), (4, "steps")):
        if not terms[:, column].any():
            raise errors.ConfigError(f"no slice has {what}; expected some to tell their cost")
    seconds = np.array([one.seconds for one in slices])
    scale = 1 / np.sqrt(seconds)
    kept = np.ones_like(seconds)
    found = np.zeros(terms.shape[1])
    for _ in range(_ROUNDS):
        weights = scale * np.sqrt(kept)
        found = _non_negative(terms * weights[:, None], seconds * weights)
        residuals = np.abs(terms @ found - seconds) * scale
        deviation = max(
            _NORMAL_MAD * float(np.median(residuals)), _ROUNDING * float(np.sqrt(seconds).mean())
        )
        limit = _OUTLIER_DEVIATIONS * deviation
        kept = limit / np.maximum(residuals, limit)
    predicted = terms @ found
    relative = np.abs(predicted - seconds) / seconds
    inside = kept >= _OUTLIER_WEIGHT
    return CostEstimate(
        _cost(found),
        float(np.median(relative)),
        float(np.quantile(relative, 0.9)),
        float(predicted[inside].sum() / seconds[inside].sum() - 1),
        int((~inside).sum()),
    )


def _terms(work: cost.Work) -> tuple[int, ...]:
    """What the coefficients of `_cost` multiply, in its order."""
    context = work.chunk_context + work.step_context
    prefill = work.chunks, work.rows, work.row_context
    return 1, *prefill, work.steps, work.lane_steps, context


def _cost(seconds: np.ndarray) -> cost.SliceCost:
    dispatch, chunk, row, row_context, step, lane, context = (
        round(float(value) * _PICOSECONDS) for value in seconds
    )
    return cost.SliceCost(
        dispatch_ps=dispatch,
        program_ps=0,  # chunks and steps have it in their own
        chunk_ps=chunk,
        row_ps=row,
        row_context_ps=row_context,
        step_ps=step,
        lane_ps=lane,
        context_ps=context,
        overlaps=False,
        fuses=False,
    )


def _non_negative(terms: np.ndarray, values: np.ndarray) -> np.ndarray:
    """argmin |terms @ x - values| over x >= 0; columns are scaled, as their units are far apart."""
    sizes = np.linalg.norm(terms, axis=0)
    sizes[sizes == 0] = 1
    # Imported here, as it takes long and the door is wanted without it.
    found, _ = importlib.import_module("scipy.optimize").nnls(terms / sizes, values)
    return found / sizes
