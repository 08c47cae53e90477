"""The engine's part of a request: numbers that must make sense for any kind.

Knows: a request's numbers, a runner's limits. Does not know: payloads, which
are the runner's to check, and pages, which are the controller's.
"""

from __future__ import annotations

from aqua_jax.control import errors, types
from aqua_jax.engine import protocols

_WEIGHT_MIN, _WEIGHT_MAX = 1e-3, 1e3  # sums of weights stay exact enough between these


def check(request: types.Request, runner: protocols.Runner) -> None:
    """Raises RequestError, saying what to give, for a request that no runner could run."""
    if request.kind != runner.kind:
        raise errors.RequestError(
            f"a request of kind {request.kind!r}; this engine runs {runner.kind!r}"
        )
    for name in ("prompt_units", "steps_max"):
        value = getattr(request, name)
        if value < 1:
            raise errors.RequestError(f"{name} is {value}; give at least 1")
    if not _WEIGHT_MIN <= request.weight <= _WEIGHT_MAX:  # NaN is neither
        raise errors.RequestError(
            f"weight is {request.weight}; give a number from {_WEIGHT_MIN} to {_WEIGHT_MAX}"
        )
    deadline = request.deadline_seconds
    if deadline is not None and not deadline > 0:
        raise errors.RequestError(f"deadline_seconds is {deadline}; give a number above 0, or None")
    units = request.prompt_units + request.steps_max - 1
    if units > runner.units_max:
        raise errors.RequestError(
            f"{request.prompt_units} prompt units and up to {request.steps_max} more need {units}"
            f" units; a session of this runner holds {runner.units_max}"
        )
