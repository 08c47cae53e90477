"""Requests go round, or to whom has the least to do."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.simulation import routing


def test_round_robin_goes_round_whatever_the_load() -> None:
    router = routing.Router("round_robin", 3)
    router.begin(1, 10)
    assert [router.choose() for _ in range(5)] == [0, 1, 2, 0, 1]


def test_least_loaded_takes_the_first_with_the_fewest_units() -> None:
    router = routing.Router("least_loaded", 3)
    for number, units in ((0, 10), (1, 4), (2, 4)):
        assert router.choose() == number
        router.begin(number, units)
    assert router.choose() == 1
    router.begin(1, 1)
    assert router.choose() == 2
    router.end(0, 10)
    assert router.choose() == 0
    router.begin(0, 5)
    router.end(1, 4)
    assert router.choose() == 1


def test_what_cannot_be_routed_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="unknown routing 'random'"):
        routing.Router("random", 2)
    with pytest.raises(errors.ConfigError, match="give at least one"):
        routing.Router("round_robin", 0)
