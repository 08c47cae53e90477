"""Replays a workload through an engine, in real time, and keeps what happened.

Knows: arrivals, an engine, a recorder. Does not know: jax, policy, reports.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aqua_jax.control import errors, types
from aqua_jax.engine import engine as engines
from aqua_jax.experiments import recorder, settings
from aqua_jax.loops import prompt
from aqua_jax.workloads import generate, prompts, records, shaping, texts, traces

_STEP_SECONDS = 0.1

OnSample = Callable[[records.Sample, int], None]  # the sample, requests finished


class Drawn(NamedTuple):
    """A workload's requests. notes: what a reader of their figures must know, in sentences."""

    arrivals: list[records.Arrival]
    notes: list[str]


def arrivals(workload: settings.WorkloadSettings, *, units_max: int) -> Drawn:
    """The requests at the workload's own rate, scaled so that each fits in `units_max` tokens.

    Raises TraceError or ConfigError.
    """
    notes: list[str] = []
    if workload.trace:
        ordered = shaping.in_order(traces.read(workload.trace))
        if ordered.misplaced:
            notes.append(
                f"{workload.trace} is not sorted by time: {ordered.misplaced} of its"
                f" {len(ordered.arrivals)} rows stand behind a later one; it was sorted"
            )
        drawn = shaping.window(ordered.arrivals, workload.requests, seed=workload.seed)
    else:
        tenants = {f"tenant{i}": 1.0 for i in range(workload.tenants)} or None
        drawn = generate.generate(
            workload.requests,
            workload.seed,
            requests_per_second=workload.rate or 1.0,
            burstiness=workload.burstiness,
            tenants=tenants,
        )
    if workload.prompt_max + workload.output_max > units_max:
        raise errors.ConfigError(
            f"workload.prompt_max {workload.prompt_max} + output_max {workload.output_max} is over"
            f" engine.units_max {units_max}: lower them or raise it"
        )
    scaled = shaping.scale(
        drawn,
        prompt_scale=workload.prompt_scale,
        output_scale=workload.output_scale,
        prompt_max=workload.prompt_max,
        output_max=workload.output_max,
    )
    return Drawn(scaled.arrivals, notes)


def requests(
    drawn: Sequence[records.Arrival],
    workload: settings.WorkloadSettings,
    *,
    vocab_size: int,
    words: texts.Texts | None = None,
) -> list[types.Request]:
    """Requests with token ids, that run to their recorded length (no stop ids).

    words: what their prompts are cut from; None: ids are random.
    """
    made = []
    for number, arrival in enumerate(drawn):
        ids = (
            prompts.token_ids(arrival, number, seed=workload.seed, vocab_size=vocab_size)
            if words is None
            else words.prompt(number, arrival.prompt_tokens)
        )
        request = prompt.text_request(
            ids,
            max_tokens=arrival.output_tokens,
            temperature=workload.temperature,
            top_p=workload.top_p,
            seed=number,
        )
        made.append(dataclasses.replace(request, tenant=arrival.tenant))
    return made


def run(
    engine: engines.Engine,
    keeper: recorder.Recorder,
    drawn: Sequence[records.Arrival],
    wanted: Iterable[types.Request],
    *,
    on_sample: OnSample,
    stopped: Callable[[], bool],
) -> None:
    """Submits each request at its time and steps the engine until all are done or `stopped()`.

    wanted: their requests, each asked for when it is due. When stopped, what is in flight is
    taken in and the rest is aborted.
    """
    keeper.begin(engine)
    requests_left = iter(wanted)
    start = engine.clock.now()
    taken = 0
    while (taken < len(drawn) or not engine.idle) and not stopped():
        now = engine.clock.now() - start
        while taken < len(drawn) and drawn[taken].at_seconds <= now:
            _submit(engine, keeper, drawn[taken], next(requests_left), taken, now)
            taken += 1
        wakes_at = now + _STEP_SECONDS
        if taken < len(drawn):
            wakes_at = min(wakes_at, drawn[taken].at_seconds)
        engine.step(start + wakes_at)
        sample = keeper.sample()
        if sample is not None:
            on_sample(sample, keeper.finished)
    interrupted = stopped()
    engine.drain(0.0)
    keeper.end(interrupted=interrupted)


def _submit(
    engine: engines.Engine,
    keeper: recorder.Recorder,
    arrival: records.Arrival,
    request: types.Request,
    number: int,
    now: float,
) -> None:
    record = records.RequestRecord(
        id=number,
        tenant=arrival.tenant,
        prompt_tokens=arrival.prompt_tokens,
        scheduled_at=arrival.at_seconds,
    )
    sink = keeper.sink(record)
    try:
        stream = engine.submit(request, sink=sink)
    except (errors.RequestError, errors.QueueFullError):
        sink((), "refused", engine.clock.now())
    else:
        keeper.admitted(record, stream.id)
