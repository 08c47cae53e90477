// XLA FFI handlers of pages on CPU: the pool's array reaches its next ticket.
//
// Operands: the donated pool (one shard of it) and the ticket's low 31 bits,
// int32[1], or -1 for whichever is next; the result is the pool again, at the
// same address. A handler says so to Transfers and returns: it copies nothing
// and waits for nothing; a fence returns a Future.
//
// An error names what was given. It costs XLA the pool, at once, whatever copies
// run on it: so what the host can see is checked when the ticket is opened, and
// a program that comes out of turn is an error of tickets (core/transfers.h). A
// handler fails on arrays alone that are no registered pool, or not as one is.
#include <sched.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "aqua.h"
#include "core/process.h"
#include "core/status.h"
#include "core/threads.h"
#include "xla/ffi/api/ffi.h"

namespace aqua {
namespace {

namespace ffi = ::xla::ffi;

using TicketOperand = ffi::BufferR1<ffi::S32>;
using PoolResult = ffi::Result<ffi::AnyBuffer>;

ffi::ErrorCode CodeOf(int32_t code) {
  switch (code) {
    case AQUA_INVALID: return ffi::ErrorCode::kInvalidArgument;
    case AQUA_STALE: return ffi::ErrorCode::kFailedPrecondition;
    case AQUA_OUT_OF_RANGE: return ffi::ErrorCode::kOutOfRange;
    case AQUA_EXHAUSTED: return ffi::ErrorCode::kResourceExhausted;
    case AQUA_UNAVAILABLE: return ffi::ErrorCode::kUnavailable;
    case AQUA_CLOSED: return ffi::ErrorCode::kUnavailable;
    default: return ffi::ErrorCode::kInternal;
  }
}

ffi::Error ErrorOf(const Status& status) {
  if (status.ok()) return ffi::Error::Success();
  return ffi::Error(CodeOf(status.code), std::string(status.file) + ":" +
                                             std::to_string(status.line) + ": " + status.text);
}

Status CheckOperands(const char* handler, const ffi::AnyBuffer& pool, const TicketOperand& ticket,
                     const void* leaves_at) {
  if (pool.untyped_data() != leaves_at) {
    return AQUA_ERROR(AQUA_INVALID,
                      "%s: the pool came at %p and would leave at %p: donate it and alias result 0 "
                      "to operand 0",
                      handler, pool.untyped_data(), leaves_at);
  }
  if (ticket.element_count() != 1) {
    return AQUA_ERROR(AQUA_INVALID, "%s: %zu tickets: expected int32[1]", handler,
                      ticket.element_count());
  }
  const auto [store, part] = TheProcess().stores.FindPart(pool.untyped_data());
  if (!store) {
    return AQUA_ERROR(AQUA_STALE,
                      "%s with ticket %d on an array of %zu bytes at %p: no live store has a part "
                      "there",
                      handler, ticket.typed_data()[0], pool.size_bytes(), pool.untyped_data());
  }
  if (static_cast<int64_t>(pool.size_bytes()) != store->pages * store->page_bytes) {
    return AQUA_ERROR(AQUA_INVALID,
                      "%s with ticket %d on an array of %zu bytes: part %d of \"%s\" has %lld",
                      handler, ticket.typed_data()[0], pool.size_bytes(), part,
                      store->label.c_str(),
                      static_cast<long long>(store->pages * store->page_bytes));
  }
  return {};
}

// No exception may leave a handler.
template <typename Body>
Status Guarded(Body&& body) {
  try {
    return body();
  } catch (const std::exception& thrown) {
    return AQUA_ERROR(AQUA_INTERNAL, "%s", thrown.what());
  }
}

ffi::Error Page(const char* handler, Direction direction, const ffi::AnyBuffer& pool,
                const TicketOperand& ticket, const void* leaves_at) {
  return ErrorOf(Guarded([&]() -> Status {
    AQUA_RETURN_IF_ERROR(CheckOperands(handler, pool, ticket, leaves_at));
    return TheProcess().transfers.Reach(pool.untyped_data(), direction, ticket.typed_data()[0],
                                        nullptr);
  }));
}

ffi::Error PageOut(ffi::AnyBuffer pool, TicketOperand ticket, PoolResult result) {
  return Page("aqua_page_out", Direction::kOut, pool, ticket, result->untyped_data());
}

ffi::Error PageIn(ffi::AnyBuffer pool, TicketOperand ticket, PoolResult result) {
  return Page("aqua_page_in", Direction::kIn, pool, ticket, result->untyped_data());
}

// Who makes a Future available runs the rest of XLA's program, on the spot. That must be neither a
// transfer thread, whose copies would stand still, nor one thread for all: programs of several
// shards wait for one another. So a fence that opens late goes on in a thread of its own, on the
// cores of the thread that it was reached on.
class Opening {
 public:
  // `inside`: whether the handler still runs; read on its thread only.
  Opening(ffi::Promise promise, std::shared_ptr<const bool> inside)
      : promise_(std::move(promise)), inside_(std::move(inside)) {
    if (sched_getaffinity(0, sizeof(cores_), &cores_) != 0) CPU_ZERO(&cores_);
  }

  void operator()() {
    if (std::this_thread::get_id() == handler_thread_ && *inside_) {
      promise_.SetAvailable();  // nobody has been told of the Future yet: runs nothing
      return;
    }
    try {
      QuietThread("aqua-fence", [promise = promise_, cores = cores_]() mutable {
        if (CPU_COUNT(&cores) > 0) sched_setaffinity(0, sizeof(cores), &cores);
        promise.SetAvailable();
      }).detach();
    } catch (const std::exception&) {
      promise_.SetAvailable();  // no more threads: late copies rather than a program that hangs
    }
  }

 private:
  ffi::Promise promise_;
  std::shared_ptr<const bool> inside_;
  cpu_set_t cores_;
  std::thread::id handler_thread_ = std::this_thread::get_id();
};

ffi::Future Fence(ffi::AnyBuffer pool, TicketOperand ticket, PoolResult result) {
  ffi::Promise promise;
  ffi::Future future(promise);
  const auto inside = std::make_shared<bool>(true);
  const Status status = Guarded([&]() -> Status {
    AQUA_RETURN_IF_ERROR(CheckOperands("aqua_fence", pool, ticket, result->untyped_data()));
    return TheProcess().transfers.ReachFence(pool.untyped_data(), ticket.typed_data()[0],
                                             Opening(promise, inside));
  });
  *inside = false;
  if (!status.ok()) promise.SetError(ErrorOf(status));
  return future;
}

auto PageBinding() {
  return ffi::Ffi::Bind().Arg<ffi::AnyBuffer>().Arg<TicketOperand>().Ret<ffi::AnyBuffer>();
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
