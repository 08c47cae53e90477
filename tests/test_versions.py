"""One build of the native library, and what stands on it, serves the other versions promised.

`.ci/run` has the ends, the oldest Python with the oldest jax and a later one with the newest jax;
this is a point between, in an environment of its own that pip fills from the network.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import tomllib

import pytest

from tests import processes
from tests.memory import parts

PYTHON, JAX = "3.13", "0.11"
TESTS = (
    "tests/memory/movers/test_ffi.py",
    "tests/memory/test_native.py",
    "tests/memory/test_holders.py",  # these two look at what Python and jax keep to themselves
    "tests/memory/test_resident.py",
)

# What the checkout's library is there, before any test may skip itself for want of it.
LOAD = """
import sys
import jax
from aqua_jax.memory import native
print(*sys.version_info[:2], jax.__version__, native.load().path, sep="|")
"""


@pytest.mark.long
@parts.needs_native
def test_the_library_serves_another_python_and_a_later_jax() -> None:
    python = _environment()
    major, minor, jax_version, path = _run(python, "-c", LOAD).strip().split("|")
    assert (f"{major}.{minor}", jax_version.rpartition(".")[0]) == (PYTHON, JAX)
    assert pathlib.Path(path).parent == processes.ROOT / "aqua_jax" / "memory"
    passed = _run(python, "-m", "pytest", "-q", *TESTS)
    assert " passed" in passed, passed
    assert "skipped" not in passed, passed


def _environment() -> pathlib.Path:
    """The Python of an environment with what the project asks for; kept, like `.venv`."""
    folder = processes.ROOT / f".venv-{PYTHON}-jax-{JAX}"
    python = folder / "bin" / "python"
    if not python.exists():
        _run(_interpreter(), "-m", "venv", "--clear", str(folder))
    project = tomllib.loads((processes.ROOT / "pyproject.toml").read_text())["project"]
    # What the tests need, less ruff, pyright and the builders.
    tools = [name for name in project["optional-dependencies"]["test"] if _is_for_tests(name)]
    wanted = [*project["dependencies"], *tools, f"jax=={JAX}.*"]
    _run(python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *wanted)
    return python


def _is_for_tests(requirement: str) -> bool:
    return requirement.startswith(("pytest", "hypothesis"))


def _interpreter() -> pathlib.Path:
    """One that runs: a pyenv shim may exist for a version that is switched off."""
    name = f"python{PYTHON}"
    pyenv = (pathlib.Path.home() / ".pyenv" / "versions").glob(f"{PYTHON}*/bin/{name}")
    for python in (pathlib.Path(name), *pyenv):
        try:
            subprocess.run(
                [python, "-c", "import ensurepip, venv"],
                check=True,
                capture_output=True,
                timeout=60,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip(f"no {name} on PATH or under ~/.pyenv/versions (pyenv install {PYTHON})")


def _run(python: pathlib.Path, *arguments: str) -> str:
    """Runs it in the checkout; what it printed."""
    run = subprocess.run(
        [python, *arguments],
        cwd=processes.ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1200,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout
