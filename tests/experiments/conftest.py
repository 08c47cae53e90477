"""One machine for the tests that run the smoke experiment: it compiles once."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

from aqua_jax.experiments import machine, trial
from tests.experiments import tiny


@pytest.fixture(scope="package")
def cache_everything() -> Iterator[None]:
    """Programs that compile fast are cached too: a machine has some seventy of them."""
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


@pytest.fixture(scope="package")
def shared(cache_everything: None) -> Iterator[machine.Machine]:
    """The smoke machine, able to verify copies."""
    made = trial.Trial(tiny.with_arms({"all": tiny.paging(verify=True)})).machine()
    yield made
    made.close()
