// XLA FFI handlers of pages on CUDA: the pool's array reaches its next ticket.
//
// Operands as on CPU: the donated pool (one shard of it) and the ticket's low 31 bits, int32[1];
// the result is the pool again, at the same address. Here the ticket lies in device memory, and
// reading it would mean to wait for the device: the queue of the pool's part says which ticket it
// is (core/transfers.h).
//
// Handlers run when XLA enqueues the program. They mark the place in its stream, with an event
// that copies wait for or with a flag that the stream waits for, and return: they copy nothing and
// wait for nothing. They are not command buffer compatible: XLA would replay the marks without
// telling us.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "aqua.h"
#include "core/process.h"
#include "core/status.h"
#include "core/transfers.h"
#include "cuda/flags.h"
#include "cuda/handler_errors.h"
#include "cuda/runtime.h"
#include "cuda/stream_copier.h"
#include "xla/ffi/api/ffi.h"

namespace aqua {
namespace {

namespace ffi = ::xla::ffi;

using TicketOperand = ffi::BufferR1<ffi::S32>;
using PoolResult = ffi::Result<ffi::AnyBuffer>;

// The device that the pool's part lies on, or what is wrong with the operands.
Result<int> CheckOperands(const char* handler, const ffi::AnyBuffer& pool, const void* leaves_at) {
  if (pool.untyped_data() != leaves_at) {
    return AQUA_ERROR(AQUA_INVALID,
                      "%s: the pool came at %p and would leave at %p: donate it and alias result 0 "
                      "to operand 0",
                      handler, pool.untyped_data(), leaves_at);
  }
  const auto [store, part] = TheProcess().stores.FindPart(pool.untyped_data());
  if (!store) {
    return AQUA_ERROR(AQUA_STALE,
                      "%s on an array of %zu bytes at %p: no live store has a part there",
                      handler, pool.size_bytes(), pool.untyped_data());
  }
  const int64_t bytes = store->pages * store->page_bytes;
  if (static_cast<int64_t>(pool.size_bytes()) != bytes) {
    return AQUA_ERROR(AQUA_INVALID, "%s on an array of %zu bytes: part %d of \"%s\" has %lld",
                      handler, pool.size_bytes(), part, store->label.c_str(),
                      static_cast<long long>(bytes));
  }
  if (store->parts[part].device == kHostDevice) {
    return AQUA_ERROR(AQUA_INVALID, "%s: \"%s\" is registered as host memory: register its device",
                      handler, store->label.c_str());
  }
  return store->parts[part].device;
}

ffi::Error Page(const char* handler, Direction direction, cudaStream_t stream,
                const ffi::AnyBuffer& pool, const void* leaves_at) {
  return Guarded([&]() -> Status {
    const Result<int> device = CheckOperands(handler, pool, leaves_at);
    AQUA_RETURN_IF_ERROR(device.status());
    const DeviceScope scope(device.value());
    Result<std::shared_ptr<Gate>> gate = StreamGate::Record(stream);
    AQUA_RETURN_IF_ERROR(gate.status());
    return TheProcess().transfers.Reach(pool.untyped_data(), direction, -1,
                                        std::move(gate).value());
  });
}

ffi::Error PageOut(cudaStream_t stream, ffi::AnyBuffer pool, TicketOperand, PoolResult result) {
  return Page("aqua_page_out", Direction::kOut, stream, pool, result->untyped_data());
}

ffi::Error PageIn(cudaStream_t stream, ffi::AnyBuffer pool, TicketOperand, PoolResult result) {
  return Page("aqua_page_in", Direction::kIn, stream, pool, result->untyped_data());
}

ffi::Error Fence(cudaStream_t stream, ffi::AnyBuffer pool, TicketOperand, PoolResult result) {
  return Guarded([&]() -> Status {
    const Result<int> device = CheckOperands("aqua_fence", pool, result->untyped_data());
    AQUA_RETURN_IF_ERROR(device.status());
    const DeviceScope scope(device.value());
    Result<Flag> lent = FlagPool::The().Lend();
    AQUA_RETURN_IF_ERROR(lent.status());
    Flag flag = std::move(lent).value();
    const Status status = TheProcess().transfers.ReachFence(pool.untyped_data(), -1,
                                                            [flag]() mutable { flag.Raise(); });
    if (!status.ok()) {
      flag.Raise();  // nobody else will
      return status;
    }
    return flag.is_raised() ? Status{} : flag.MakeWait(stream);
  });
}

auto PageBinding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::PlatformStream<cudaStream_t>>()
      .Arg<ffi::AnyBuffer>()
      .Arg<TicketOperand>()
      .Ret<ffi::AnyBuffer>();
}

}  // namespace

// Declared first so that they are exported whatever the default visibility.
extern "C" {
AQUA_EXPORT XLA_FFI_Error* aqua_page_out(XLA_FFI_CallFrame* frame);
AQUA_EXPORT XLA_FFI_Error* aqua_page_in(XLA_FFI_CallFrame* frame);
AQUA_EXPORT XLA_FFI_Error* aqua_fence(XLA_FFI_CallFrame* frame);
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(aqua_page_out, PageOut, PageBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(aqua_page_in, PageIn, PageBinding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(aqua_fence, Fence, PageBinding());

}  // namespace aqua
