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
    """The smoke machine, with every mover that auto may choose and the oracle; verifies copies."""
    arms = {mover: tiny.paging(mover=mover, verify=True) for mover in ("auto", "xla", "reference")}
    made = trial.Trial(tiny.with_arms(arms)).machine()
    yield made
    made.close()


@pytest.fixture(scope="package", autouse=True)
def link_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Speeds of links are kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
