"""Finds, loads and registers the native libraries, on first use only.

Knows: where the build puts them, which builds this jax can run, the names of
their FFI targets. Does not know: what the calls do (`native_library.py`).

There is one place for each library: beside this file. CMake writes there when
it builds in a checkout (`make native`, an editable install), and the wheel
carries it there. So whichever copy of this file Python imports, its own build
is the one that is used, and no other can be found.
"""

from __future__ import annotations

import functools
import pathlib
import re
import threading

import jax

from aqua_jax.control import errors
from aqua_jax.memory import native_library

Library = native_library.Library

FFI_TARGETS = (
    "aqua_page_out",
    "aqua_page_in",
    "aqua_fence",
    "aqua_attend_decode",
    "aqua_attend_prefill",
)
CPU_TARGETS = ("aqua_linear",)

_FILES = {"cpu": "libaqua_cpu.so", "CUDA": "libaqua_cuda.so"}
_HOW_TO_BUILD = {
    "cpu": "install a C++17 compiler, then run `make native` in a checkout, or `pip install` "
    "aqua_jax from its source again",
    "CUDA": "install nvcc and a C++17 compiler, then run `make native CUDA=ON` in a checkout, or "
    "`pip install` aqua_jax from its source again",
}

_loading = threading.Lock()
_loaded: dict[str, Library] = {}


def load(platform: str = "cpu") -> Library:
    """The library of `platform` ("cpu" or "CUDA"), its targets registered with XLA.

    The first call loads it and brings up jax's devices; later ones return the same.
    Raises NativeError with what to do: not built, built for other versions, no such device, or
    targets of these names registered by somebody else.
    """
    with _loading:
        if platform not in _loaded:
            library = _open(platform)
            _check_devices(platform)
            _register(library, platform)
            _loaded[platform] = library
        return _loaded[platform]


def available(platform: str = "cpu") -> bool:
    """Whether the library is there and this jax can run it. Registers nothing."""
    return not missing_reason(platform)


def missing_reason(platform: str = "cpu") -> str:
    """Why `load` would fail and what to do about it; empty when the library can be used."""
    try:
        _open(platform)
        _check_devices(platform)
    except errors.NativeError as error:
        return str(error)
    return ""


def library_path(platform: str) -> pathlib.Path:
    """The one place where the library of `platform` may be. Raises ConfigError for another one."""
    if platform not in _FILES:
        raise errors.ConfigError(
            f"unknown platform {platform!r}{errors.close_match(platform, _FILES)}"
        )
    return pathlib.Path(__file__).with_name(_FILES[platform])


@functools.cache
def ffi_api_version() -> tuple[int, int]:
    """(major, minor) of the XLA FFI API that this jax runs, as its own headers say."""
    header = pathlib.Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    found = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", header.read_text("utf-8")))
    return int(found["MAJOR"]), int(found["MINOR"])


def _open(platform: str) -> Library:
    path = library_path(platform)
    if not path.is_file():
        raise errors.NativeError(
            f"the native library for {platform} is not built: there is no {path}. To build it: "
            f"{_HOW_TO_BUILD[platform]}"
        )
    try:
        library = Library(path)
        _check_build(library, platform)
    except errors.NativeError as error:
        raise errors.NativeError(f"{error}. To rebuild it: {_HOW_TO_BUILD[platform]}") from error
    return library


def _check_build(library: Library, platform: str) -> None:
    build, runs = library.build, ffi_api_version()
    if build.platform != platform.lower():
        raise errors.NativeError(
            f"{library.path} was built for {build.platform}, expected {platform}"
        )
    major, minor = build.ffi_api
    if major != runs[0] or minor > runs[1]:
        raise errors.NativeError(
            f"{library.path} was built against XLA FFI API {major}.{minor}, but jax "
            f"{jax.__version__} runs {runs[0]}.{runs[1]} and older"
        )


def _check_devices(platform: str) -> None:
    try:
        jax.devices(platform.lower())
    except RuntimeError as error:
        raise errors.NativeError(f"jax has no {platform} device: {error}") from error


def _register(library: Library, platform: str) -> None:
    # Only once jax has its devices: before, a registration is merely noted down, and one that
    # clashes would take the whole backend with it. XLA never forgets a target.
    for name in FFI_TARGETS + (CPU_TARGETS if platform == "cpu" else ()):
        try:
            jax.ffi.register_ffi_target(name, library.capsule(name), platform=platform)
        except RuntimeError as error:
            raise errors.NativeError(
                f"FFI target {name} of {library.path} cannot be registered for {platform}: {error}."
                " If another copy of the library holds it, use one copy a process"
            ) from error
