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

_FILES = {"cpu": "libaqua_cpu.so", "CUDA": "libaqua_cuda.so"}
_NEEDS = {"cpu": "a C++17 compiler", "CUDA": "nvcc and a C++17 compiler"}

_loading = threading.Lock()
_registered: dict[str, Library] = {}


def load(platform: str = "cpu") -> Library:
    """The library of `platform` ("cpu" or "CUDA"), its targets registered with XLA.

    The first call loads it and brings up jax's devices; later ones return the same.
    Raises NativeError with what to do: not built, built for other versions, no such device.
    """
    with _loading:
        if platform not in _registered:
            library = _compatible(platform, library_path(platform))
            _check_devices(platform)
            register(library, platform)
        return _registered[platform]


def available(platform: str = "cpu") -> bool:
    """Whether `load` would succeed. Registers nothing."""
    return not missing_reason(platform)


def missing_reason(platform: str = "cpu") -> str:
    """Why `load` would fail and what to do about it; empty when it would not."""
    try:
        _compatible(platform, library_path(platform))
        _check_devices(platform)
    except errors.NativeError as error:
        return str(error)
    return ""


def library_path(platform: str) -> pathlib.Path:
    """The one place where the library of `platform` may be."""
    if platform not in _FILES:
        raise errors.ConfigError(
            f"unknown platform {platform!r}{errors.close_match(platform, _FILES)}"
        )
    return pathlib.Path(__file__).with_name(_FILES[platform])


def register(library: Library, platform: str) -> None:
    """Registers the library's targets, once a process and platform.

    Raises NativeError when the targets of this platform are already another library's: XLA
    never forgets one.
    """
    owner = _registered.get(platform)
    if owner is library:
        return
    if owner is not None:
        raise errors.NativeError(
            f"{library.path} cannot be registered for {platform}: this process has the targets of "
            f"{owner.path}; use load(), or another process"
        )
    for name in FFI_TARGETS:
        try:
            capsule = jax.ffi.pycapsule(getattr(library.handle, name))
            jax.ffi.register_ffi_target(name, capsule, platform=platform)
        except (AttributeError, RuntimeError) as error:
            raise errors.NativeError(
                f"FFI target {name} of {library.path} cannot be registered for {platform}: {error}"
            ) from error
    _registered[platform] = library


@functools.cache
def _compatible(platform: str, path: pathlib.Path) -> Library:
    """The library at `path`, opened and of versions that this package and this jax can run."""
    if not path.is_file():
        raise errors.NativeError(
            f"the native library for {platform} is not built: there is no {path}. "
            f"{_advice(platform)}"
        )
    try:
        library = Library(path)
    except errors.NativeError as error:
        raise errors.NativeError(f"{error}. {_advice(platform)}") from error
    if library.build.platform != platform.lower():
        raise errors.NativeError(
            f"{path} was built for {library.build.platform}, expected {platform}. "
            f"{_advice(platform)}"
        )
    own, jaxs = library.build.ffi_api, ffi_api_version()
    if own[0] != jaxs[0] or own[1] > jaxs[1]:
        raise errors.NativeError(
            f"{path} was built against XLA FFI API {own[0]}.{own[1]}, but jax {jax.__version__} "
            f"runs {jaxs[0]}.{jaxs[1]} and what is older. {_advice(platform)}"
        )
    return library


@functools.cache
def ffi_api_version() -> tuple[int, int]:
    """(major, minor) of the XLA FFI API that this jax runs, as its own headers say."""
    header = pathlib.Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    found = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", header.read_text("utf-8")))
    return int(found["MAJOR"]), int(found["MINOR"])


def _check_devices(platform: str) -> None:
    # Brings the backend up: stateful CPU handlers cannot be registered before it exists.
    try:
        jax.devices(platform.lower())
    except RuntimeError as error:
        raise errors.NativeError(f"jax has no {platform} device: {error}") from error


def _advice(platform: str) -> str:
    return (
        f"To build it: install {_NEEDS[platform]}, then `make native` in a checkout, or install "
        "the package again with pip"
    )
