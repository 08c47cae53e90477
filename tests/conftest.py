"""Strict modes for every test: warnings are errors, no silent promotion, four CPU devices."""

from __future__ import annotations

import os
import pathlib
import threading
from collections.abc import Iterator

# Before jax is imported: devices are made once per process.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

jax.config.update("jax_compilation_cache_dir", str(ROOT / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="module")
def no_copies_left() -> Iterator[None]:
    """Whoever leaves a mover open is named, rather than the test that then finds its threads."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name == "native copies"]
    assert not left, "a mover of this file's tests was not closed"


@pytest.fixture(scope="session")
def traces_dir() -> pathlib.Path:
    """The folder of recorded traces beside the checkout; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"recorded traces are not at {folder}")
    return folder
