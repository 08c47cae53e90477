"""Finding, loading and registering the native library, and what is said when that fails."""

from __future__ import annotations

import pathlib
import shutil

import jax
import pytest

from aqua_jax.control import errors
from aqua_jax.memory import native
from tests import processes
from tests.memory import fake_native, parts


def test_importing_loads_nothing_and_touches_no_device() -> None:
    program = """
import aqua_jax, aqua_jax.memory.native, aqua_jax.memory.native_library
from jax._src import xla_bridge
assert "libaqua" not in open("/proc/self/maps").read(), "loaded on import"
assert not xla_bridge.backends_are_initialized(), "devices brought up on import"
"""
    processes.python(program)


def test_the_only_place_is_beside_the_loader() -> None:
    folder = pathlib.Path(native.__file__).parent
    assert native.library_path("cpu") == folder / "libaqua_cpu.so"
    assert native.library_path("CUDA") == folder / "libaqua_cuda.so"
    with pytest.raises(errors.ConfigError, match=r"unknown platform 'cuda' \(known: CUDA, cpu"):
        native.library_path("cuda")


def test_this_jax_says_which_ffi_api_it_runs() -> None:
    major, minor = native.ffi_api_version()
    assert (major, minor) >= (0, 3), "the oldest supported jax has 0.3"


@parts.needs_native
def test_it_is_loaded_once() -> None:
    assert native.available("cpu")
    library = native.load("cpu")
    assert native.load("cpu") is library
    assert library.build.platform == "cpu"
    assert library.build.ffi_api <= native.ffi_api_version()
    assert "libaqua_cpu.so" in pathlib.Path("/proc/self/maps").read_text()


def test_a_missing_library_says_how_to_build_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lie_at(monkeypatch, tmp_path / "libaqua_cpu.so")
    expected = (
        r"the native library for cpu is not built: there is no .*libaqua_cpu.so. To build it: "
        r"install a C\+\+17 compiler, then run `make native` in a checkout, or `pip install`"
    )
    with pytest.raises(errors.NativeError, match=expected):
        native.load("cpu")
    assert not native.available("cpu")
    assert "`make native CUDA=ON`" in native.missing_reason("CUDA")


@fake_native.needs_compiler
@pytest.mark.parametrize(
    ("abi", "ffi_api", "platform", "expected"),
    [
        (99, "[0, 3]", "cpu", "has ABI version 99, this package needs 2: they come from different"),
        (2, "[0, 99]", "cpu", r"built against XLA FFI API 0.99, but jax .* runs 0.\d+ and older"),
        (2, "[1, 0]", "cpu", r"built against XLA FFI API 1.0, but jax .* runs 0.\d+ and older"),
        (2, "[0, 3]", "cuda", "libfake.so was built for cuda, expected cpu"),
    ],
    ids=["abi", "newer ffi", "another major ffi", "platform"],
)
def test_a_library_of_other_versions_says_so(
    abi: int,
    ffi_api: str,
    platform: str,
    expected: str,
    *,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = (
        f'{{"abi": 1, "ffi_api": {ffi_api}, "compiler": "", "platform": "{platform}", "cuda": 0}}'
    )
    _lie_at(monkeypatch, fake_native.build(tmp_path, abi=abi, info=info))
    with pytest.raises(errors.NativeError, match=f"{expected}.*To rebuild it: install"):
        native.load("cpu")
    assert not native.available("cpu")


def test_a_platform_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("this machine has a GPU")
    _lie_at(monkeypatch, pathlib.Path(native.__file__))
    monkeypatch.setattr(native, "_open", lambda platform: None)
    with pytest.raises(errors.NativeError, match=r"jax has no CUDA device: "):
        native.load("CUDA")


@parts.needs_native
def test_targets_that_another_library_holds(tmp_path: pathlib.Path) -> None:
    # In a process of its own, since XLA never forgets a target.
    copy = shutil.copy(native.library_path("cpu"), tmp_path)
    program = f"""
import pathlib, jax
from aqua_jax.control import errors
from aqua_jax.memory import native, native_library
other = native_library.Library(pathlib.Path({copy!r}))
jax.devices()
jax.ffi.register_ffi_target("aqua_page_in", other.capsule("aqua_page_in"), platform="cpu")
try:
    native.load("cpu")
except errors.NativeError as error:
    text = str(error)
assert "FFI target aqua_page_in of" in text and "cannot be registered for cpu" in text, text
assert "use one copy a process" in text, text
"""
    processes.python(program)


def _lie_at(monkeypatch: pytest.MonkeyPatch, path: pathlib.Path) -> None:
    """As if nothing had been loaded, and the library lay at `path`."""
    monkeypatch.setattr(native, "_loaded", {})
    monkeypatch.setattr(native, "library_path", lambda platform: path)
