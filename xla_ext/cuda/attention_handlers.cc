// XLA FFI handlers of paged attention on CUDA: aqua_attend_decode, aqua_attend_prefill.
//
// Operands (attention/operands.h) in device memory. What only the device can see (page table
// entries, positions, the layer) is checked there: a row that names no page comes out as NaN.
//
// Arenas that a table may name are those registered when XLA enqueues the program. Whoever retires
// one waits for the programs that read it, as for any page.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "aqua.h"
#include "attention/operands.h"
#include "core/process.h"
#include "core/status.h"
#include "core/store.h"
#include "cuda/arena_bases.h"
#include "cuda/attention.h"
#include "cuda/handler_errors.h"
#include "cuda/runtime.h"
#include "xla/ffi/api/ffi.h"

namespace aqua {
namespace {

namespace ffi = ::xla::ffi;

using Long = long long;  // for %lld

// What the kernels can compute.
Status CheckShape(const AttentionShape& shape) {
  if (shape.head_dim % kHeadUnit != 0 || shape.head_dim < kHeadUnit || shape.head_dim > kHeadMax) {
    return AQUA_ERROR(AQUA_INVALID, "head_dim is %lld: expected a multiple of %d up to %d",
                      Long{shape.head_dim}, kHeadUnit, kHeadMax);
  }
  // Positions and pages are 32 bits wide in the kernels, and so are a grid's heads less one.
  if (shape.group < 1 || shape.kv_heads * shape.group > 65535 || shape.pages > kPagesMax ||
      shape.table_pages * shape.page_tokens > INT32_MAX / 2 || shape.rows > INT32_MAX / 2 ||
      shape.table_pages < 1 || shape.page_tokens < 1) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE,
                      "%lld pages, tables of %lld pages of %lld tokens, %lld query heads: more "
                      "than a kernel can count, or none",
                      Long{shape.pages}, Long{shape.table_pages}, Long{shape.page_tokens},
                      Long{shape.kv_heads * shape.group});
  }
  if (shape.window_most < 0 || shape.window_most > INT32_MAX || !(shape.softcap >= 0)) {
    return AQUA_ERROR(AQUA_INVALID,
                      "window_most is %lld, softcap %g: expected 0 (none) or more of both",
                      Long{shape.window_most}, static_cast<double>(shape.softcap));
  }
  return {};
}

AttentionOperands OperandsOf(const Operands& given, const AttentionShape& shape, bool is_prefill) {
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
  operands.rows = count(shape.rows);
  operands.table_pages = count(shape.table_pages);
  operands.pages = count(shape.pages);
  operands.layers = count(shape.layers);
  operands.page_tokens = count(shape.page_tokens);
  operands.kv_heads = count(shape.kv_heads);
  operands.group = count(shape.group);
  operands.head_dim = count(shape.head_dim);
  operands.window_most = count(shape.window_most);
  constexpr float kLog2E = 1.4426950408889634f;
  operands.query_scale = shape.softcap > 0 ? shape.scale / shape.softcap : shape.scale * kLog2E;
  operands.softcap = shape.softcap * kLog2E;
  Cut(&operands, given.pool.element_type() == ffi::DataType::F32 ? 4 : 2, is_prefill);
  return operands;
}

ArenaCache& TheArenas() {  // never destroyed, as the process's stores
  static ArenaCache& arenas = *std::make_unique<ArenaCache>(&TheProcess().stores).release();
  return arenas;
}

template <bool kIsPrefill>
ffi::Error Handle(cudaStream_t stream, ffi::ScratchAllocator scratch, ffi::AnyBuffer pool,
                  Ints layer, Ints tables, Ints positions, ffi::AnyBuffer queries,
                  ffi::AnyBuffer keys, ffi::AnyBuffer values, ffi::Result<ffi::AnyBuffer> pool_out,
                  ffi::Result<ffi::AnyBuffer> attended, int64_t window_most, float scale,
                  float softcap) {
  return Guarded([&]() -> Status {
    const Operands given = {pool,   layer,     tables,    positions,   queries, keys,
                            values, *pool_out, *attended, window_most, scale,   softcap};
    const Result<AttentionShape> shape = ShapeOf(given);
    if (!shape.ok()) return shape.status();
    AQUA_RETURN_IF_ERROR(CheckShape(shape.value()));
    AttentionOperands operands = OperandsOf(given, shape.value(), kIsPrefill);
    const int64_t floats = kIsPrefill ? 0 : PartialFloats(operands);
    if (floats > 0) {
      const std::optional<void*> partials = scratch.Allocate(floats * sizeof(float), 256);
      if (!partials) {
        return AQUA_ERROR(AQUA_EXHAUSTED, "no %lld bytes of scratch for the segments of %d rows",
                          Long{floats} * 4, operands.rows);
      }
      operands.partials = static_cast<float*>(*partials);
    }
    const ArenaBases arenas = TheArenas().Find(operands.pool);
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
      .Attr<int64_t>("window_most")
      .Attr<float>("scale")
      .Attr<float>("softcap");
}

}  // namespace

extern "C" {
AQUA_EXPORT XLA_FFI_Error* aqua_attend_decode(XLA_FFI_CallFrame* frame);
AQUA_EXPORT XLA_FFI_Error* aqua_attend_prefill(XLA_FFI_CallFrame* frame);
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(aqua_attend_decode, Handle<false>, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(aqua_attend_prefill, Handle<true>, Binding());

}  // namespace aqua
