// XLA FFI handlers of paged attention on CPU: aqua_attend_decode, aqua_attend_prefill.
//
// Knows: XLA's buffers and its threads. Does not know: how attention is computed (attention/).
//
// (pool, layer int32[], tables int32[R, M], positions int32[R], queries [R, K, G, D],
//  keys [R, K, D], values [R, K, D]) -> (pool, attended [R, K, G, D])
//
// Attributes: window int64, 0: none; scale float32, of the scores; lanes int64, if given: floats in
// a vector, for tests (attention/kernel.h).
//
// The pool is aliased: the rows' keys and values are written into their pages first, so a row
// attends to itself and to those of the same call. Rows of prefill that are neighbours and share
// their page table share loads too; a row's result is the same from both.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "attention/task.h"
#include "core/process.h"
#include "xla/ffi/api/ffi.h"

namespace aqua {
namespace {

namespace ffi = xla::ffi;

using Ints = ffi::Buffer<ffi::S32>;

ffi::Future Done() {
  ffi::Promise promise;
  ffi::Future future(promise);
  promise.SetAvailable();
  return future;
}

ffi::Future Failed(const Status& status) {
  const bool range = status.code == AQUA_OUT_OF_RANGE;
  ffi::Promise promise;
  ffi::Future future(promise);
  promise.SetError(
      ffi::Error(range ? ffi::ErrorCode::kOutOfRange : ffi::ErrorCode::kInvalidArgument,
                 "attention: " + status.text + " (" + status.file + ":" +
                     std::to_string(status.line) + ")"));
  return future;
}

std::optional<ElementType> TypeOf(ffi::DataType type) {
  if (type == ffi::DataType::F32) return ElementType::kFloat32;
  if (type == ffi::DataType::BF16) return ElementType::kBfloat16;
  return std::nullopt;
}

bool HasShape(ffi::AnyBuffer buffer, std::initializer_list<int64_t> expected) {
  const auto dimensions = buffer.dimensions();
  return std::equal(dimensions.begin(), dimensions.end(), expected.begin(), expected.end());
}

struct Operands {
  ffi::AnyBuffer pool;
  Ints layer, tables, positions;
  ffi::AnyBuffer queries, keys, values, pool_out, attended;
  int64_t window;
  float scale;
  int64_t lanes;
};

// The call that the operands make, or how they do not fit together.
Result<AttentionCall> CallOf(const Operands& given, bool share_loads) {
  const auto pool = given.pool.dimensions(), tables = given.tables.dimensions();
  const auto queries = given.queries.dimensions();
  if (pool.size() != 6 || tables.size() != 2 || queries.size() != 4 || pool[2] != 2) {
    return AQUA_ERROR(AQUA_INVALID,
                      "expected a pool [pages, layers, 2, page_tokens, kv_heads, head_dim], tables "
                      "[rows, table_pages], queries [rows, kv_heads, group, head_dim]");
  }
  AttentionCall call{};
  call.shape = AttentionShape{queries[0], tables[1], pool[0],    pool[1],      pool[3],
                              pool[4],    queries[2], pool[5], given.window, given.scale};
  const AttentionShape& shape = call.shape;
  if (!HasShape(given.queries, {shape.rows, shape.kv_heads, shape.group, shape.head_dim}) ||
      !HasShape(given.keys, {shape.rows, shape.kv_heads, shape.head_dim}) ||
      !HasShape(given.values, {shape.rows, shape.kv_heads, shape.head_dim}) ||
      !HasShape(given.attended, {shape.rows, shape.kv_heads, shape.group, shape.head_dim}) ||
      tables[0] != shape.rows || given.positions.element_count() != size_t(shape.rows) ||
      given.layer.element_count() != 1) {
    return AQUA_ERROR(AQUA_INVALID,
                      "operands of different sizes: expected %lld rows, %lld KV heads, head_dim "
                      "%lld and one layer, as the queries and the pool have them",
                      static_cast<long long>(shape.rows), static_cast<long long>(shape.kv_heads),
                      static_cast<long long>(shape.head_dim));
  }
  const auto type = TypeOf(given.pool.element_type());
  if (!type || given.queries.element_type() != given.pool.element_type() ||
      given.keys.element_type() != given.pool.element_type() ||
      given.values.element_type() != given.pool.element_type() ||
      given.attended.element_type() != given.pool.element_type()) {
    return AQUA_ERROR(AQUA_INVALID, "expected pool and rows all of float32 or all of bfloat16");
  }
  if (given.pool.untyped_data() != given.pool_out.untyped_data()) {
    return AQUA_ERROR(AQUA_INVALID, "the pool is not aliased to the first result");
  }
  call.type = *type;
  call.layer = given.layer.typed_data()[0];
  call.pool = static_cast<std::byte*>(given.pool.untyped_data());
  call.tables = given.tables.typed_data();
  call.positions = given.positions.typed_data();
  call.queries = static_cast<const std::byte*>(given.queries.untyped_data());
  call.keys = static_cast<const std::byte*>(given.keys.untyped_data());
  call.values = static_cast<const std::byte*>(given.values.untyped_data());
  call.attended = static_cast<std::byte*>(given.attended.untyped_data());
  call.share_loads = share_loads;
  call.lanes = static_cast<int>(given.lanes);
  return call;
}

ffi::Future Attend(ffi::ThreadPool threads, const Operands& given, bool share_loads) {
  const Result<AttentionCall> call = CallOf(given, share_loads);
  if (!call.ok()) return Failed(call.status());
  auto made = AttentionTask::Make(call.value(), TheProcess().stores, threads.num_threads());
  if (!made.ok()) return Failed(made.status());
  const std::shared_ptr<AttentionTask> task = std::move(made).value();
  task->Write();
  const int64_t workers = std::min(std::max<int64_t>(threads.num_threads(), 1), task->items());
  if (workers <= 1) {
    task->Work();
    return Done();
  }
  ffi::CountDownPromise left(workers);
  ffi::Future future(left);
  for (int64_t worker = 1; worker < workers; ++worker) {
    threads.Schedule([task, left]() mutable {
      task->Work();
      left.CountDown();
    });
  }
  task->Work();
  left.CountDown();
  return future;
}

template <bool share_loads>
ffi::Future Handle(ffi::ThreadPool threads, ffi::AnyBuffer pool, Ints layer, Ints tables,
                   Ints positions, ffi::AnyBuffer queries, ffi::AnyBuffer keys,
                   ffi::AnyBuffer values, ffi::Result<ffi::AnyBuffer> pool_out,
                   ffi::Result<ffi::AnyBuffer> attended, ffi::Dictionary attributes) {
  const auto window = attributes.get<int64_t>("window");
  const auto scale = attributes.get<float>("scale");
  const bool chooses = attributes.contains("lanes");
  const auto lanes = chooses ? attributes.get<int64_t>("lanes") : ffi::ErrorOr<int64_t>(0);
  if (!window || !scale || !lanes) {
    return Failed(AQUA_ERROR(AQUA_INVALID, "expected the attributes window (int64), scale "
                                           "(float32) and no other but lanes (int64)"));
  }
  return Attend(threads,
                Operands{pool, layer, tables, positions, queries, keys, values, *pool_out,
                         *attended, *window, *scale, *lanes},
                share_loads);
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<ffi::AnyBuffer>()  // pool
      .Arg<Ints>()            // layer
      .Arg<Ints>()            // tables
      .Arg<Ints>()            // positions
      .Arg<ffi::AnyBuffer>()  // queries
      .Arg<ffi::AnyBuffer>()  // keys
      .Arg<ffi::AnyBuffer>()  // values
      .Ret<ffi::AnyBuffer>()  // pool
      .Ret<ffi::AnyBuffer>()  // attended
      .Attrs();
}

}  // namespace
}  // namespace aqua

extern "C" AQUA_EXPORT XLA_FFI_Error* aqua_attend_decode(XLA_FFI_CallFrame* call_frame);
extern "C" AQUA_EXPORT XLA_FFI_Error* aqua_attend_prefill(XLA_FFI_CallFrame* call_frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(aqua_attend_decode, aqua::Handle<false>, aqua::Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(aqua_attend_prefill, aqua::Handle<true>, aqua::Binding());
