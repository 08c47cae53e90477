"""Numbers of a request that no runner could run; the texts stand in `test_engine.py`."""

from __future__ import annotations

import dataclasses

import pytest

from aqua_jax.control import clock, errors
from aqua_jax.engine import requests
from aqua_jax.simulation import toy

REQUEST = toy.request([1, 2], 3)


def _runner() -> toy.ToyRunner:
    return toy.ToyRunner(toy.ToyMemory({0: 8}, 4), clock.VirtualClock(), units_max=4)


@pytest.mark.parametrize("weight", [1e-3, 1.0, 1e3])
def test_weights_within_bounds_pass(weight: float) -> None:
    requests.check(dataclasses.replace(REQUEST, weight=weight), _runner())


@pytest.mark.parametrize("weight", [0.0, -1.0, 9e-4, 1.1e3, float("nan"), float("inf")])
def test_weights_beyond_bounds_are_refused(weight: float) -> None:
    with pytest.raises(errors.RequestError, match=r"weight is .*; give a number from 0.001 to"):
        requests.check(dataclasses.replace(REQUEST, weight=weight), _runner())


def test_the_last_token_needs_no_unit_of_its_own() -> None:
    requests.check(REQUEST, _runner())  # 2 + 3 - 1 units of 4
    with pytest.raises(errors.RequestError, match="2 prompt units and up to 4 more need 5 units"):
        requests.check(dataclasses.replace(REQUEST, steps_max=4), _runner())
