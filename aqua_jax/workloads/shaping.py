"""Fitting a trace to an experiment: a window of it, scaled lengths, another rate, tenants.

Knows: arrivals. Does not know: where they came from, or what runs them.
Everything is a function of its arguments; draws use `random.Random.random` and
`randrange`, whose sequences are the same in every supported version and on every machine.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aqua_jax.control import errors
from aqua_jax.workloads import records


class Ordered(NamedTuple):
    """Arrivals by time, and how many of them stood behind a later one."""

    arrivals: list[records.Arrival]
    misplaced: int


class Scaled(NamedTuple):
    """Scaled arrivals, and how many prompts and outputs were cut to their limit."""

    arrivals: list[records.Arrival]
    prompts_clipped: int
    outputs_clipped: int


def in_order(arrivals: Sequence[records.Arrival]) -> Ordered:
    """The arrivals by time, those of one moment as they stood; the first at 0 seconds."""
    misplaced, latest_seconds = 0, -math.inf
    for arrival in arrivals:
        misplaced += arrival.at_seconds < latest_seconds
        latest_seconds = max(latest_seconds, arrival.at_seconds)
    if not misplaced:
        return Ordered(list(arrivals), 0)
    ordered = sorted(arrivals, key=lambda arrival: arrival.at_seconds)
    return Ordered(_from_zero(ordered), misplaced)


def window(
    arrivals: Sequence[records.Arrival], requests: int, *, seed: int
) -> list[records.Arrival]:
    """`requests` consecutive arrivals from a place drawn from `seed`; the first at 0 seconds.

    The place is `random.Random(seed).randrange(rows - requests)`, or the beginning where the
    window is the whole trace: anybody can draw the same.
    """
    if not 1 <= requests <= len(arrivals):
        raise errors.ConfigError(
            f"a window of {requests} requests does not fit: the trace has {len(arrivals)}; "
            f"ask for 1 to {len(arrivals)}"
        )
    places = len(arrivals) - requests
    start = random.Random(seed).randrange(places) if places else 0
    return _from_zero(arrivals[start : start + requests])


def scale(
    arrivals: Sequence[records.Arrival],
    *,
    prompt_scale: float = 1.0,
    output_scale: float = 1.0,
    prompt_max: int | None = None,
    output_max: int | None = None,
) -> Scaled:
    """Lengths times their scale, rounded half up, at least 1, at most their limit.

    Prefix blocks scale with the prompts, so what two prompts share stays in proportion.
    """
    for name, value in (("prompt_scale", prompt_scale), ("output_scale", output_scale)):
        _check_positive(name, value)
    for name, limit in (("prompt_max", prompt_max), ("output_max", output_max)):
        if limit is not None and limit < 1:
            raise errors.ConfigError(f"{name} is {limit}: give at least 1 token, or None")
    scaled: list[records.Arrival] = []
    prompts_clipped = outputs_clipped = 0
    for arrival in arrivals:
        prompt = _scaled(arrival.prompt_tokens, prompt_scale)
        output = _scaled(arrival.output_tokens, output_scale)
        prompts_clipped += prompt_max is not None and prompt > prompt_max
        outputs_clipped += output_max is not None and output > output_max
        scaled.append(
            _with_lengths(
                arrival,
                min(prompt, prompt_max or prompt),
                min(output, output_max or output),
                block_scale=prompt_scale,
            )
        )
    return Scaled(scaled, prompts_clipped, outputs_clipped)


def at_rate(
    arrivals: Sequence[records.Arrival], requests_per_second: float
) -> list[records.Arrival]:
    """The same arrivals with time stretched so that their mean rate is the one asked for.

    The mean rate is gaps over the seconds between first and last arrival. All
    gaps stretch by one factor, so bursts keep their shape.
    """
    _check_positive("requests_per_second", requests_per_second)
    if len(arrivals) < 2:
        return [dataclasses.replace(arrival, at_seconds=0.0) for arrival in arrivals]
    first_seconds = arrivals[0].at_seconds
    span_seconds = arrivals[-1].at_seconds - first_seconds
    if span_seconds <= 0:
        raise errors.ConfigError(
            f"all {len(arrivals)} requests arrive at one moment: no rate can be set; "
            "use a longer window of the trace"
        )
    factor = (len(arrivals) - 1) / requests_per_second / span_seconds
    return [
        dataclasses.replace(arrival, at_seconds=(arrival.at_seconds - first_seconds) * factor)
        for arrival in arrivals
    ]


def with_tenants(
    arrivals: Sequence[records.Arrival], weights: Mapping[str, float], *, seed: int
) -> list[records.Arrival]:
    """Gives every arrival a tenant, drawn in proportion to `weights` (name -> share)."""
    if not weights:
        raise errors.ConfigError("no tenants given: name at least one, with its share of requests")
    for name, weight in weights.items():
        _check_positive(f"the weight of tenant {name!r}", weight)
    names = list(weights)
    bounds = list(itertools.accumulate(weights.values()))
    draws = random.Random(f"{seed}/tenants")
    return [
        dataclasses.replace(arrival, tenant=_draw(names, bounds, draws.random()))
        for arrival in arrivals
    ]


def _from_zero(arrivals: Sequence[records.Arrival]) -> list[records.Arrival]:
    """The same times counted from the first."""
    first_seconds = arrivals[0].at_seconds
    return [
        dataclasses.replace(arrival, at_seconds=arrival.at_seconds - first_seconds)
        for arrival in arrivals
    ]


def _scaled(tokens: int, factor: float) -> int:
    return max(1, math.floor(tokens * factor + 0.5))


def _with_lengths(
    arrival: records.Arrival, prompt_tokens: int, output_tokens: int, *, block_scale: float
) -> records.Arrival:
    block = 0
    prefix_ids: tuple[int, ...] = ()
    if arrival.prefix_ids:
        block = _scaled(arrival.prefix_block_tokens, block_scale)
        prefix_ids = arrival.prefix_ids[: math.ceil(prompt_tokens / block)]
    return dataclasses.replace(
        arrival,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        prefix_ids=prefix_ids,
        prefix_block_tokens=block,
    )


def _draw(names: Sequence[str], bounds: Sequence[float], uniform: float) -> str:
    """The first name whose cumulative weight passes `uniform` in [0, 1) of the total."""
    target = uniform * bounds[-1]
    return next(
        (name for name, bound in zip(names, bounds, strict=True) if target < bound), names[-1]
    )


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise errors.ConfigError(f"{name} is {value}: give a finite number above 0")
