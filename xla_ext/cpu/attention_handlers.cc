// XLA FFI handlers of paged attention on CPU: aqua_attend_decode, aqua_attend_prefill.
//
// Knows: XLA's buffers and its threads. Does not know: how attention is computed (attention/).
//
// Operands as in attention/operands.h. One attribute more, lanes int64, if given: floats in a
// vector, for tests (attention/kernel.h).
//
// The pool is aliased: the rows' keys and values are written into their pages first, so a row
// attends to itself and to those of the same call. Rows of prefill that are neighbours and share
// their page table share loads too; a row's result is the same from both.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "attention/operands.h"
#include "attention/task.h"
#include "core/process.h"
#include "cpu/futures.h"
#include "xla/ffi/api/ffi.h"

namespace aqua {
namespace {

namespace ffi = xla::ffi;

const char kWhat[] = "attention";

// The call that the operands make, or how they do not fit together.
Result<AttentionCall> CallOf(const Operands& given, int64_t lanes, bool share_loads) {
  const Result<AttentionShape> shape = ShapeOf(given);
  if (!shape.ok()) return shape.status();
  const bool is_float32 = given.pool.element_type() == ffi::DataType::F32;
  AttentionCall call{};
  call.shape = shape.value();
  call.type = is_float32 ? ElementType::kFloat32 : ElementType::kBfloat16;
  call.layer = given.layer.typed_data()[0];
  call.shape.window = given.layer.typed_data()[1];
  call.pool = static_cast<std::byte*>(given.pool.untyped_data());
  call.tables = given.tables.typed_data();
  call.positions = given.positions.typed_data();
  call.queries = static_cast<const std::byte*>(given.queries.untyped_data());
  call.keys = static_cast<const std::byte*>(given.keys.untyped_data());
  call.values = static_cast<const std::byte*>(given.values.untyped_data());
  call.attended = static_cast<std::byte*>(given.attended.untyped_data());
  call.share_loads = share_loads;
  call.lanes = static_cast<int>(lanes);
  return call;
}

ffi::Future Attend(ffi::ThreadPool threads, const Operands& given, int64_t lanes,
                   bool share_loads) {
  const Result<AttentionCall> call = CallOf(given, lanes, share_loads);
  if (!call.ok()) return Failed(kWhat, call.status());
  auto made = AttentionTask::Make(call.value(), TheProcess().stores, threads.num_threads());
  if (!made.ok()) return Failed(kWhat, made.status());
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
  const auto window_most = attributes.get<int64_t>("window_most");
  const auto scale = attributes.get<float>("scale");
  const auto softcap = attributes.get<float>("softcap");
  const bool chooses = attributes.contains("lanes");
  const auto lanes = chooses ? attributes.get<int64_t>("lanes") : ffi::ErrorOr<int64_t>(0);
  if (!window_most || !scale || !softcap || !lanes) {
    return Failed(kWhat, AQUA_ERROR(AQUA_INVALID, "expected the attributes window_most (int64), "
                                           "scale and softcap (float32) and no other but lanes "
                                           "(int64)"));
  }
  return Attend(threads,
                Operands{pool, layer, tables, positions, queries, keys, values, *pool_out,
                         *attended, *window_most, *scale, *softcap},
                *lanes, share_loads);
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
