"""What of the CUDA library runs without a GPU: its kernels and its copier, over doubles in C++.

The doubles are in `xla_ext/cuda/tests`: a block of GPU threads on one CPU thread, and a CUDA
runtime whose streams are threads. Needs CUDA's headers and a compiler, no driver.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

NATIVE = pathlib.Path(__file__).resolve().parents[2] / "xla_ext"
CORE = ("alarm", "order", "runs", "store", "transfers")
COPIER = ("runtime", "driver", "flags", "stream_copier")

# Where CUDA is installed, as nvcc and its users say.
_HOMES = (
    os.environ.get("CUDA_HOME"),
    str(pathlib.Path(shutil.which("nvcc") or "/nowhere/bin/nvcc").resolve().parents[1]),
    "/usr/local/cuda",
)
_INCLUDES = [pathlib.Path(home) / "include" for home in _HOMES if home]
_HEADERS = next((path for path in _INCLUDES if (path / "cuda.h").is_file()), None)
_COMPILER = shutil.which("g++")

pytestmark = [
    pytest.mark.long,  # compiles a minute
    pytest.mark.skipif(
        _COMPILER is None or _HEADERS is None,
        reason="no g++, or no headers of CUDA",
    ),
]


def test_attention_is_right_to_the_bit(tmp_path: pathlib.Path) -> None:
    flags = ["-O1", "-ffp-contract=off", "-Wno-unknown-pragmas"]
    text = _run(tmp_path, ["cuda/tests/attention_check.cc", "core/store.cc"], flags)
    assert text.count(": right") == len(text.splitlines()) > 10


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_copies_gates_and_fences_are_in_order(tmp_path: pathlib.Path, sanitizer: str) -> None:
    sources = ["cuda/tests/copier_check.cc", "cuda/tests/fake_cuda.cc"]
    sources += [f"cuda/{name}.cc" for name in COPIER] + [f"core/{name}.cc" for name in CORE]
    text = _run(tmp_path, sources, ["-O1", "-g", "-pthread", f"-fsanitize={sanitizer}"])
    assert "right" in text


def _run(folder: pathlib.Path, sources: list[str], flags: list[str]) -> str:
    """Compiles with every warning an error and runs; what it prints."""
    program = folder / "check"
    command = [str(_COMPILER), "-std=c++17", "-Wall", "-Wextra", "-Werror", *flags]
    command += ["-I", str(NATIVE), "-isystem", str(_HEADERS)]
    command += [*(str(NATIVE / source) for source in sources), "-o", str(program)]
    subprocess.run(command, check=True, timeout=280)
    ended = subprocess.run([program], capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
