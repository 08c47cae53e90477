"""How many requests a second a machine sustains under one arm, measured in a few seconds.

Knows: an engine kept full, what its slices cost. Does not know: jax, token ids.

In the long run a request costs its prompt, its output and what it recomputes:

    1 / rate = prompt * row_seconds + output * (token_seconds + recomputed * row_seconds)

with the seconds of a prefill row and of a decoded token measured apart. Tokens
over seconds would not do: while the lanes fill, nearly all work is prefill, and
sessions that have just begun are short, so more of them run at once than ever
after. So the first are caught in mid-life, and tokens count once nobody fits in.
On a virtual clock, where the truth is known, 3 s of the burst came within 18 % of the
throughput of the whole run for nine seeds of ten, tokens over seconds 20 to 80 % above it.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from aqua_jax.control import types
from aqua_jax.engine import engine as engines
from aqua_jax.engine import observer
from aqua_jax.workloads import records

_FLOOD = 512  # requests behind the first: more than any calibration finishes
_FILLED = 0.7  # of the memory by those in mid-life: they grow, and none is to be preempted at once
_GOLDEN_SECTION = 0.618
_SLICES_MIN = 4  # while the engine is full; fewer say nothing


class Account(observer.Observer):
    """The slices of the engine that it observes, each with what it ran and its seconds."""

    def __init__(self) -> None:
        self.slices: list[Slice] = []

    def slice_done(
        self, batch: types.Batch, chunks: int, started_at: float, finished_at: float
    ) -> None:
        tokens = sum(plan.steps for plan in batch.lanes)
        self.slices.append(
            Slice(chunks, batch.prefill_units, batch.steps, tokens, started_at, finished_at)
        )


class Slice(NamedTuple):
    """Prefill programs and their rows; steps and the tokens decoded in them; clock seconds."""

    chunks: int
    rows: int
    steps: int
    tokens: int
    started_at: float
    finished_at: float


def flood(
    drawn: Sequence[records.Arrival], *, lanes: int, capacity_tokens: int
) -> list[records.Arrival]:
    """Requests like `drawn` that, all submitted at once, keep an engine as full as a long run does.

    The first are in mid-life and fill most of the memory; of those behind them, any few in a
    row are long and short in the proportions of all.
    """
    ordered = sorted(drawn, key=lambda arrival: (arrival.output_tokens, arrival.prompt_tokens))
    mixed = _mixed(ordered)
    caught = _in_mid_life(mixed, lanes)
    fit = int(lanes * _FILLED * capacity_tokens / sum(one.prompt_tokens for one in caught))
    if fit < lanes:
        caught = _in_mid_life(mixed, max(1, fit))
    return caught + (mixed * (1 + _FLOOD // len(mixed)))[:_FLOOD]


def keep_full(
    engine: engines.Engine, requests: Sequence[types.Request], *, seconds: float
) -> float:
    """Runs `requests`, all at once, for `seconds` or until none is left; aborts what remains.

    Returns the tokens recomputed for each one emitted.
    """
    emitted = 0

    def take(tokens: Sequence[object], reason: str, at: float) -> None:
        nonlocal emitted
        emitted += len(tokens)

    for request in requests:
        engine.submit(request, sink=take)
    end = engine.clock.now() + seconds
    while engine.clock.now() < end and not engine.idle:
        engine.step(end)
    recomputed = engine.controller.counters.recomputed_tokens
    engine.drain(0.0)
    return recomputed / emitted if emitted else 0.0


def rate(
    slices: Sequence[Slice], drawn: Sequence[records.Arrival], *, recomputed: float
) -> float | None:
    """Requests like `drawn` that can be served in a second; None when the slices tell too little.

    recomputed: tokens for each one emitted.
    """
    prompt = statistics.fmean(arrival.prompt_tokens for arrival in drawn)
    output = statistics.fmean(arrival.output_tokens for arrival in drawn)
    full = slices[_full_from(slices) :]
    tokens = sum(one.tokens for one in full)
    if len(full) < _SLICES_MIN or (output > 1 and not tokens):
        return None
    chunk_seconds, step_seconds = _program_seconds(slices)
    prefilling = full if any(one.rows for one in full) else slices
    rows = sum(one.rows for one in prefilling)
    row_seconds = chunk_seconds * sum(one.chunks for one in prefilling) / rows
    token_seconds = step_seconds * sum(one.steps for one in full) / tokens if tokens else 0.0
    # The first token of a request comes with its prompt's last row.
    seconds = (prompt + output * recomputed) * row_seconds + (output - 1) * token_seconds
    busy = sum(one.finished_at - one.started_at for one in full)
    return busy / (full[-1].finished_at - full[0].started_at) / seconds


def _mixed(ordered: Sequence[records.Arrival]) -> list[records.Arrival]:
    """Each once, from the middle on in steps near the golden section: neighbours differ."""
    count = len(ordered)
    step = next(
        k for k in itertools.count(round(count * _GOLDEN_SECTION)) if math.gcd(k, count) == 1
    )
    return [ordered[(count // 2 + index * step) % count] for index in range(count)]


def _in_mid_life(drawn: Sequence[records.Arrival], count: int) -> list[records.Arrival]:
    """`count` requests as one finds them running at some moment of a long run.

    All outputs laid end to end and looked at in places evenly apart: long ones are met more
    often, at any age. What a request has emitted before counts as its prompt.
    """
    ends = list(itertools.accumulate(arrival.output_tokens for arrival in drawn))
    caught = []
    for place in range(count):
        token = ends[-1] * (2 * place + 1) // (2 * count)
        index = bisect.bisect_right(ends, token)
        arrival, left = drawn[index], ends[index] - token
        prompt_tokens = arrival.prompt_tokens + arrival.output_tokens - left
        caught.append(dataclasses.replace(arrival, prompt_tokens=prompt_tokens, output_tokens=left))
    return caught


def _full_from(slices: Sequence[Slice]) -> int:
    """The index from which the engine is full.

    Somebody always waits, so a slice without prefill is one into which nobody fitted. Where
    prefill never stops (short outputs), the lanes are taken to have filled in the first third.
    """
    first = next((i for i, one in enumerate(slices) if not one.chunks), len(slices))
    return first if first < len(slices) else len(slices) // 3


def _program_seconds(slices: Sequence[Slice]) -> tuple[float, float]:
    """Seconds of a prefill program and of a step: least squares over the slices."""
    chunks = math.fsum(one.chunks**2 for one in slices)
    steps = math.fsum(one.steps**2 for one in slices)
    both = math.fsum(one.chunks * one.steps for one in slices)
    seconds = [one.finished_at - one.started_at for one in slices]
    in_chunks = math.fsum(one.chunks * s for one, s in zip(slices, seconds, strict=True))
    in_steps = math.fsum(one.steps * s for one, s in zip(slices, seconds, strict=True))
    determinant = chunks * steps - both**2
    if determinant > 1e-6 * chunks * steps:
        chunk = (in_chunks * steps - in_steps * both) / determinant
        step = (in_steps * chunks - in_chunks * both) / determinant
        if chunk >= 0 and step >= 0:
            return chunk, step
    # Always in one proportion, or one of them hidden by noise: the same for either.
    each = math.fsum(seconds) / sum(one.chunks + one.steps for one in slices)
    return each, each
