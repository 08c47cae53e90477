"""The bindings against xla_ext/aqua.h: every function, type, code and struct, and both errors."""

from __future__ import annotations

import ctypes
import pathlib
import re

import pytest

from aqua_jax.control import errors
from aqua_jax.memory import native_abi, native_library
from tests.memory import fake_native

HEADER = (fake_native.XLA_EXT / "aqua.h").read_text("utf-8")
PROTOTYPE = re.compile(r"AQUA_EXPORT ([\w ]+\*?) ?(aqua_\w+)\(([^)]*)\);")
TYPES = {
    "void": None,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "double": ctypes.c_double,
    "const char*": ctypes.c_char_p,
}


def test_every_function_is_bound_with_the_types_of_the_header() -> None:
    expected = {name: _signature(*rest) for *rest, name in _prototypes()}
    bound = dict(native_abi.PLAIN)
    for name, parameters in native_abi.FALLIBLE.items():
        bound[name] = (ctypes.c_int64, (*parameters, ctypes.c_void_p))
    assert bound == expected


@pytest.mark.parametrize(
    ("prefix", "values"),
    [("AQUA_", native_abi.Code), ("AQUA_MEMORY_", native_library.MemoryKind)],
    ids=["codes", "kinds"],
)
def test_enums_are_those_of_the_header(
    prefix: str, values: type[native_abi.Code | native_library.MemoryKind]
) -> None:
    enum = {"AQUA_": "aqua_code", "AQUA_MEMORY_": "aqua_memory_kind"}[prefix]
    (body,) = re.findall(rf"enum {enum} {{(.*?)}};", HEADER, re.DOTALL)
    listed = {name: int(value) for name, value in re.findall(r"(AQUA_\w+) = (\d+)", body)}
    assert listed == {f"{prefix}{value.name}": value.value for value in values}


def test_the_abi_version_is_that_of_the_header() -> None:
    assert f"#define AQUA_ABI_VERSION {native_abi.ABI_VERSION}\n" in HEADER


def test_what_is_no_library_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "libaqua_cpu.so"
    path.write_text("half a download")
    with pytest.raises(
        errors.NativeError, match=r"libaqua_cpu.so cannot be loaded: .*file too short"
    ):
        native_abi.Functions(path)


@fake_native.needs_compiler
def test_another_abi_version_is_refused_before_anything_is_called(tmp_path: pathlib.Path) -> None:
    path = fake_native.build(tmp_path, abi=99, without="aqua_wait")
    with pytest.raises(errors.NativeError, match="ABI version 99, this package needs 2"):
        native_abi.Functions(path)


@fake_native.needs_compiler
def test_a_library_without_a_function_is_refused(tmp_path: pathlib.Path) -> None:
    path = fake_native.build(tmp_path, without="aqua_wait")
    with pytest.raises(errors.NativeError, match=r"libfake.so has no aqua_wait: .*an old one"):
        native_abi.Functions(path)


def test_lists_that_do_not_fit_are_refused() -> None:
    assert list(native_abi.int32s("pages", [3, -1])) == [3, -1]
    assert list(native_abi.int32s("pages", [])) == []
    with pytest.raises(errors.NativeError, match=r"INVALID: pages \[2147483648\] do not fit 32"):
        native_abi.int32s("pages", [1, 2**31])
    assert list(native_abi.int64s("tickets", [2**62])) == [2**62]
    with pytest.raises(errors.NativeError, match=r"INVALID: tickets \[9223372036854775808\] do"):
        native_abi.int64s("tickets", [2**63, 1])


def test_an_error_says_what_where_and_which() -> None:
    error = native_abi.native_error(
        native_abi.ErrorStruct(code=2, line=45, file=b"store.cc", text=b"store 7 has retired")
    )
    assert str(error) == "STALE: store 7 has retired (store.cc:45)"
    assert (error.code, error.file, error.line) == (native_abi.Code.STALE, "store.cc", 45)
    unknown = native_abi.native_error(native_abi.ErrorStruct(code=77, text=b"from the future"))
    assert str(unknown) == "code 77: from the future"


def _prototypes() -> list[tuple[str, str, str]]:
    found = [(r.strip(), p, n) for r, n, p in PROTOTYPE.findall(" ".join(HEADER.split()))]
    assert len(found) == HEADER.count("AQUA_EXPORT ") - 1, "a prototype that is not understood"
    return found


def _signature(result: str, parameters: str) -> tuple[object, tuple[object, ...]]:
    if parameters == "void":
        return TYPES[result], ()
    kinds = [re.sub(r" ?\w+$", "", parameter.strip()) for parameter in parameters.split(",")]
    return TYPES[result], tuple(
        ctypes.c_void_p if kind.endswith("*") and kind != "const char*" else TYPES[kind]
        for kind in kinds
    )
