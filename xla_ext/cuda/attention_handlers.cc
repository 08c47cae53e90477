// XLA FFI handlers of paged attention on CUDA: aqua_attend_decode, aqua_attend_prefill.
//
// Operands as on CPU (cpu/attention_handlers.cc), in device memory; attributes are window (int64,
// 0: none) and scale (float32, of the scores). What only the device can see (page table entries,
// positions, the layer) is checked there: a row that names no page comes out as NaN.
//
// Arenas that a table may name are those registered when XLA enqueues the program. Whoever retires
// one waits for the programs that read it, as for any page.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>

#include "aqua.h"
#include "core/process.h"
#include "core/status.h"
#include "core/store.h"
#include "cuda/attention.h"
#include "cuda/handler_errors.h"
#include "cuda/runtime.h"
#include "xla/ffi/api/ffi.h"

namespace aqua {
namespace {

namespace ffi = ::xla::ffi;

using Ints = ffi::Buffer<ffi::S32>;
using Long = long long;  // for %lld

struct Operands {
  ffi::AnyBuffer pool;
  Ints layer, tables, positions;
  ffi::AnyBuffer queries, keys, values, pool_out, attended;
  int64_t window;
  float scale;
};

bool HasShape(const ffi::AnyBuffer& buffer, std::initializer_list<int64_t> expected) {
  const auto dimensions = buffer.dimensions();
  return std::equal(dimensions.begin(), dimensions.end(), expected.begin(), expected.end());
}

Status CheckShapes(const Operands& given) {
  const auto pool = given.pool.dimensions(), tables = given.tables.dimensions();
  const auto queries = given.queries.dimensions();
  if (pool.size() != 6 || tables.size() != 2 || queries.size() != 4 || pool[2] != 2) {
    return AQUA_ERROR(AQUA_INVALID,
                      "expected a pool [pages, layers, 2, page_tokens, kv_heads, head_dim], tables "
                      "[rows, table_pages], queries [rows, kv_heads, group, head_dim]");
  }
  const int64_t rows = queries[0], kv_heads = pool[4], group = queries[2], head_dim = pool[5];
  if (!HasShape(given.queries, {rows, kv_heads, group, head_dim}) ||
      !HasShape(given.keys, {rows, kv_heads, head_dim}) ||
      !HasShape(given.values, {rows, kv_heads, head_dim}) ||
      !HasShape(given.attended, {rows, kv_heads, group, head_dim}) || tables[0] != rows ||
      given.positions.element_count() != static_cast<size_t>(rows) ||
      given.layer.element_count() != 1) {
    return AQUA_ERROR(AQUA_INVALID,
                      "operands of different sizes: expected %lld rows, %lld KV heads, head_dim "
                      "%lld and one layer, as the queries and the pool have them",
                      Long{rows}, Long{kv_heads}, Long{head_dim});
  }
  if (head_dim % kHeadUnit != 0 || head_dim < kHeadUnit || head_dim > kHeadMax) {
    return AQUA_ERROR(AQUA_INVALID, "head_dim is %lld: expected a multiple of %d up to %d",
                      Long{head_dim}, kHeadUnit, kHeadMax);
  }
  // Positions and pages are 32 bits wide in the kernels, and so are a grid's heads less one.
  if (group < 1 || kv_heads * group > 65535 || pool[0] > kPagesMax ||
      tables[1] * pool[3] > INT32_MAX / 2 || rows > INT32_MAX / 2 || tables[1] < 1 || pool[3] < 1) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE,
                      "%lld pages, tables of %lld pages of %lld tokens, %lld query heads: more "
                      "than a kernel can count, or none",
                      Long{pool[0]}, Long{tables[1]}, Long{pool[3]}, Long{kv_heads * group});
  }
  return {};
}

Status CheckValues(const Operands& given) {
  const ffi::DataType type = given.pool.element_type();
  if ((type != ffi::DataType::F32 && type != ffi::DataType::BF16) ||
      given.queries.element_type() != type || given.keys.element_type() != type ||
      given.values.element_type() != type || given.attended.element_type() != type) {
    return AQUA_ERROR(AQUA_INVALID, "expected pool and rows all of float32 or all of bfloat16");
  }
  if (given.pool.untyped_data() != given.pool_out.untyped_data()) {
    return AQUA_ERROR(AQUA_INVALID, "the pool is not aliased to the first result");
  }
  if (given.window < 0 || given.window > INT32_MAX) {
    return AQUA_ERROR(AQUA_INVALID, "window is %lld: expected 0 (none) or more",
                      Long{given.window});
  }
  return {};
}

// The arenas with pages like the pool's, by slot; the part that goes with the pool's.
ArenaBases FindArenas(const StoreTable& stores, const void* pool) {
  ArenaBases arenas = {};
  const auto found = stores.FindPart(pool);
  const std::shared_ptr<Store>& own = found.first;
  const auto part = static_cast<size_t>(found.second);
  if (!own) return arenas;
  for (int slot = 0; slot < kSlotsMax; ++slot) {
    const std::shared_ptr<Store> arena = stores.FindSlot(slot);
    if (!arena || part >= arena->parts.size() || arena->page_bytes != own->page_bytes) continue;
    arenas.base[slot] = arena->parts[part].base;
    arenas.pages[slot] = static_cast<int32_t>(arena->pages);
  }
  return arenas;
}

AttentionOperands OperandsOf(const Operands& given, bool is_prefill) {
  const auto pool = given.pool.dimensions();
  const auto count = [](int64_t value) { return static_cast<int>(value); };
  const auto bytes = [](const ffi::AnyBuffer& buffer) {
    return static_cast<std::byte*>(buffer.untyped_data());
  };
  AttentionOperands operands = {};
  operands.pool = bytes(given.pool);
  operands.layer = given.layer.typed_data();
  operands.tables = given.tables.typed_data();
  operands.positions = given.positions.typed_data();
  operands.queries = bytes(given.queries);
  operands.keys = bytes(given.keys);
  operands.values = bytes(given.values);
  operands.attended = bytes(given.attended);
  operands.rows = count(given.queries.dimensions()[0]);
  operands.table_pages = count(given.tables.dimensions()[1]);
  operands.pages = count(pool[0]);
  operands.layers = count(pool[1]);
  operands.page_tokens = count(pool[3]);
  operands.kv_heads = count(pool[4]);
  operands.group = count(given.queries.dimensions()[2]);
  operands.head_dim = count(pool[5]);
  operands.window = count(given.window);
  constexpr float kLog2E = 1.4426950408889634f;
  operands.score_scale = given.scale * kLog2E;
  Cut(&operands, given.pool.element_type() == ffi::DataType::F32 ? 4 : 2, is_prefill);
  return operands;
}

template <bool kIsPrefill>
ffi::Error Handle(cudaStream_t stream, ffi::ScratchAllocator scratch, ffi::AnyBuffer pool,
                  Ints layer, Ints tables, Ints positions, ffi::AnyBuffer queries,
                  ffi::AnyBuffer keys, ffi::AnyBuffer values, ffi::Result<ffi::AnyBuffer> pool_out,
                  ffi::Result<ffi::AnyBuffer> attended, int64_t window, float scale) {
  return Guarded([&]() -> Status {
    const Operands given = {pool,   layer,     tables,    positions, queries, keys,
                            values, *pool_out, *attended, window,    scale};
    AQUA_RETURN_IF_ERROR(CheckShapes(given));
    AQUA_RETURN_IF_ERROR(CheckValues(given));
    AttentionOperands operands = OperandsOf(given, kIsPrefill);
    const int64_t floats = kIsPrefill ? 0 : PartialFloats(operands);
    if (floats > 0) {
      const std::optional<void*> partials = scratch.Allocate(floats * sizeof(float), 256);
      if (!partials) {
        return AQUA_ERROR(AQUA_EXHAUSTED, "no %lld bytes of scratch for the segments of %d rows",
                          Long{floats} * 4, operands.rows);
      }
      operands.partials = static_cast<float*>(*partials);
    }
    const ArenaBases arenas = FindArenas(TheProcess().stores, operands.pool);
    const bool is_bfloat16 = pool.element_type() == ffi::DataType::BF16;
    return AQUA_CUDA_STATUS(
        LaunchAttention(operands, arenas, is_bfloat16, kIsPrefill, stream));
  });
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::PlatformStream<cudaStream_t>>()
      .Ctx<ffi::ScratchAllocator>()
      .Arg<ffi::AnyBuffer>()  // pool
      .Arg<Ints>()            // layer
      .Arg<Ints>()            // tables
      .Arg<Ints>()            // positions
      .Arg<ffi::AnyBuffer>()  // queries
      .Arg<ffi::AnyBuffer>()  // keys
      .Arg<ffi::AnyBuffer>()  // values
      .Ret<ffi::AnyBuffer>()  // pool
      .Ret<ffi::AnyBuffer>()  // attended
      .Attr<int64_t>("window")
      .Attr<float>("scale");
}

}  // namespace

extern "C" {
AQUA_EXPORT XLA_FFI_Error* aqua_attend_decode(XLA_FFI_CallFrame* frame);
AQUA_EXPORT XLA_FFI_Error* aqua_attend_prefill(XLA_FFI_CallFrame* frame);
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(aqua_attend_decode, Handle<false>, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(aqua_attend_prefill, Handle<true>, Binding());

}  // namespace aqua
