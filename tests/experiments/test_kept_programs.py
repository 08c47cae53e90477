"""Programs are kept where the user or jax says, small ones too, and nothing is quiet about it."""

from __future__ import annotations

import pathlib

import jax
import pytest

from aqua_jax.experiments import kept_programs
from tests import processes

PROGRAM = """
import jax
from aqua_jax.experiments import kept_programs

print(kept_programs.keep())
jax.jit(lambda x: x + 1)(1.0)
"""


def run(environment: dict[str, str]) -> str:
    return processes.python(PROGRAM, environment=environment).strip()


def test_programs_are_kept_in_the_users_cache_and_small_ones_too(tmp_path):
    said = run({"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": ""})
    where = tmp_path / "aqua_jax" / "programs"
    assert said == f"programs are kept in {where}"
    assert any(where.iterdir())


def test_jaxs_own_setting_says_where(tmp_path):
    assert str(tmp_path / "own") in run({"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")})
    assert any((tmp_path / "own").iterdir())


@pytest.fixture
def configured(monkeypatch):
    """jax's settings, as they were afterwards."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    kept = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in kept.items():
        jax.config.update(name, value)


def test_where_it_cannot_be_written_that_is_said(configured, tmp_path: pathlib.Path):
    file = tmp_path / "file"
    file.touch()
    jax.config.update("jax_compilation_cache_dir", str(file / "below"))
    assert "programs are not kept" in kept_programs.keep()


def test_it_can_be_turned_off(configured):
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert "JAX_ENABLE_COMPILATION_CACHE is off" in kept_programs.keep()
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
