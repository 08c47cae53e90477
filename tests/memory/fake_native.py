"""A native library that does nothing, built by the machine's compiler: wrong versions, refusals.

It answers as the comments beside its functions say, and asserts at compile time
that the structs of the bindings have the layout that xla_ext/aqua.h gives them.
"""

from __future__ import annotations

import ctypes
import pathlib
import shutil
import subprocess

import pytest

from aqua_jax.memory import native_abi

XLA_EXT = pathlib.Path(__file__).resolve().parents[2] / "xla_ext"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")

needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="no C++ compiler (c++, g++, clang++) on PATH to build a library with"
)

SOURCE = """
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "aqua.h"

static int64_t Refuse(const char* what, aqua_error* error) {
  error->code = AQUA_OUT_OF_RANGE;
  error->line = 7;
  strcpy(error->file, "fake.cc");
  snprintf(error->text, sizeof(error->text), "refused to %s", what);
  return -1;
}
static int64_t Sum(const int32_t* values, int32_t count) {
  int64_t sum = 0;
  for (int32_t i = 0; i < count; ++i) sum += values[i];
  return sum;
}
static volatile int woken = 0;

extern "C" {
int32_t aqua_abi_version(void) { return ABI; }
const char* aqua_build_info(void) { return INFO; }
int64_t aqua_start(int32_t threads, const int32_t* cores, int32_t count, aqua_error*) {
  return threads + (cores ? Sum(cores, count) : 0);
}
int64_t aqua_close(double, aqua_error*) { return 0; }
int64_t aqua_memory_allocate(int32_t, int64_t, int32_t, aqua_error* e) {
  return Refuse("allocate", e);
}
int64_t aqua_memory_export(int64_t, aqua_error* e) { return Refuse("export", e); }
int64_t aqua_memory_import(int32_t, int32_t, int64_t, int32_t, aqua_error* e) {
  return Refuse("import", e);
}
int64_t aqua_memory_address(int64_t, aqua_error* e) { return Refuse("say the address", e); }
int64_t aqua_memory_free(int64_t, aqua_error* e) { return Refuse("free", e); }
int64_t aqua_memory_live_bytes(void) { return 1ll << 40; }
int64_t aqua_store_register(const char* label, int32_t parts, void* const* bases, const int32_t*,
                            int64_t, int64_t, int64_t, aqua_error*) {
  return label[0] == 's' && bases[parts - 1] == (void*)0x1000 ? 5 : 6;  // 5: as the test gives it
}
int64_t aqua_store_slot(int32_t store, aqua_error*) { return store; }  // what arrives
int64_t aqua_store_at(const void* base, aqua_error* e) {
  return base == (void*)0x1000 ? 5 : Refuse("find", e);
}
int64_t aqua_store_retire(int32_t, const char*, aqua_error*) { return 0; }
int64_t aqua_store_busy(int32_t, aqua_error* e) { return Refuse("say how busy it is", e); }
int64_t aqua_store_read(int32_t, int32_t part, int64_t page, void* into, aqua_error*) {
  memset(into, (int)(10 * part + page), 16);  // the pages of the test have 16 bytes
  return 0;
}
int64_t aqua_store_write(int32_t, int32_t, int64_t, const void* from, aqua_error* e) {
  return memcmp(from, "0123456789abcdef", 16) ? Refuse("write", e) : 0;
}
int64_t aqua_store_clear(int32_t, aqua_error* e) { return Refuse("clear", e); }
int64_t aqua_copy_open(int32_t source, int32_t target, const int32_t* sources,
                       const int32_t* targets, int32_t count, int32_t pool, aqua_error*) {
  return ((source * 10 + target) * 10 + pool) * 10000 + Sum(sources, count) * 100 +
         Sum(targets, count);
}
int64_t aqua_fence_open(int32_t, const int64_t* tickets, int32_t count, double seconds,
                        aqua_error*) {
  return tickets[count - 1] + (int64_t)seconds;
}
int64_t aqua_ticket_abandon(int64_t, const char* why, aqua_error* e) { return Refuse(why, e); }
int64_t aqua_tickets_open(void) { return 3; }
int64_t aqua_wait(double seconds, aqua_completion* completions, int32_t) {
  for (double waited = 0; waited < seconds && !woken; waited += 0.001) usleep(1000);
  memset(completions, 0, 2 * sizeof(aqua_completion));  // one that was copied, one that failed
  completions[0] = aqua_completion{1ll << 33, 64, 100, 110, 120, {}};
  completions[1].ticket = 2;
  Refuse("copy", &completions[1].error);
  return 2;
}
void aqua_wake(void) { woken = 1; }
}  // extern "C"
"""


def build(
    folder: pathlib.Path,
    *,
    abi: int = native_abi.ABI_VERSION,
    info: str = '{"abi": 1, "ffi_api": [0, 3], "compiler": "", "platform": "cpu", "cuda": null}',
    without: str = "aqua_none",
) -> pathlib.Path:
    """Compiles the library into `folder`, if wished without one of its functions."""
    assert COMPILER is not None, "mark the test needs_compiler"
    source, library = folder / "fake.cc", folder / "libfake.so"
    source.write_text(SOURCE + _layout())
    definitions = [f"-DABI={abi}", f'-DINFO=R"({info})"', f"-D{without}=renamed"]
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", f"-I{XLA_EXT}", *definitions, str(source), "-o", library],
        check=True,
        timeout=60,
    )
    return library


def _layout() -> str:
    lines = []
    for name, struct in (
        ("aqua_error", native_abi.ErrorStruct),
        ("aqua_completion", native_abi.CompletionStruct),
    ):
        lines.append(f'static_assert(sizeof({name}) == {ctypes.sizeof(struct)}, "size");')
        for field, *_ in struct._fields_:
            offset = getattr(struct, field).offset
            lines.append(f'static_assert(offsetof({name}, {field}) == {offset}, "{field}");')
    return "#include <cstddef>\n" + "\n".join(lines) + "\n"
