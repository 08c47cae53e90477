"""Installation: without a compiler it succeeds, and who needs the native library is told how.

The wheel is built in place by the tools of this environment, as `pip install .` does it in one
of its own.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from aqua_jax.memory import native
from tests import processes
from tests.memory import parts

BUILDERS = ("scikit_build_core", "cmake", "ninja")

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, BUILDERS)),
    reason=f"{', '.join(BUILDERS)} are not all installed: `make setup` brings them",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel that is built where PATH leads to no compiler."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "bin").mkdir()
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-v"]
    run = subprocess.run(
        [*command, "--disable-pip-version-check", "--wheel-dir", str(folder), "."],
        cwd=processes.ROOT,
        env={"PATH": str(folder / "bin"), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout
    said = " ".join(run.stdout.split())  # CMake breaks its lines as it likes
    assert "aqua: no C++ compiler on PATH: building no native library" in said
    (path,) = folder.glob("*.whl")
    return path


def test_without_a_compiler_there_is_a_wheel_for_every_python(wheel: pathlib.Path) -> None:
    assert "-py3-none-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert "aqua_jax/memory/native.py" in names
    # What the checkout has built for itself does not get in.
    assert not [name for name in names if name.endswith(".so")]
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"aqua_jax"}


def test_what_is_installed_says_how_to_build_the_library(
    wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = """
import sys
import aqua_jax
from aqua_jax.control import errors
from aqua_jax.memory import native
print(aqua_jax.__file__)
assert not native.available()
try:
    native.load()
except errors.NativeError as error:
    print(error)
"""
    printed = _installed(tmp_path, program)
    assert str(tmp_path / "aqua_jax" / "__init__.py") in printed
    assert f"is not built: there is no {tmp_path}/aqua_jax/memory/libaqua_cpu.so" in printed
    assert "install a C++17 compiler, then run `make native`" in printed


@parts.needs_native
def test_an_installed_library_lies_beside_its_loader(
    wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    shutil.copy(native.library_path("cpu"), tmp_path / "aqua_jax" / "memory")
    program = "from aqua_jax.memory import native; print(native.load().path)"
    assert _installed(tmp_path, program).strip() == (
        f"{tmp_path}/aqua_jax/memory/{native.library_path('cpu').name}"
    )


def _installed(folder: pathlib.Path, program: str) -> str:
    """Runs `program` where only `folder` has aqua_jax: -S leaves the editable install out."""
    paths = [str(folder), *(path for path in sys.path if path.endswith("site-packages"))]
    environment = {"PYTHONPATH": os.pathsep.join(paths)}
    return processes.python(program, "-S", environment=environment, cwd=folder)
