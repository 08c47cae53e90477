// aqua.h over the one state of the process: checks of C arguments, errors by value.
//
// Built into each library, with its platform (core/platform.h). No exception
// leaves a function: out of memory or threads becomes AQUA_EXHAUSTED.
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "aqua.h"
#include "core/platform.h"
#include "core/process.h"
#include "core/status.h"
#include "xla/ffi/api/c_api.h"

namespace aqua {
namespace {

constexpr int32_t kThreadsMax = 64;

// Runs `body`, which returns a Result<int64_t>.
template <typename Body>
int64_t Guarded(aqua_error* error, Body&& body) {
  Status status;
  try {
    const Result<int64_t> result = body();
    if (result.ok()) {
      FillError({}, error);
      return result.value();
    }
    status = result.status();
  } catch (const std::bad_alloc&) {
    status = AQUA_ERROR(AQUA_EXHAUSTED, "out of memory");
  } catch (const std::system_error& thrown) {
    status = AQUA_ERROR(AQUA_EXHAUSTED, "no more threads: %s", thrown.what());
  } catch (const std::exception& thrown) {
    status = AQUA_ERROR(AQUA_INTERNAL, "%s", thrown.what());
  }
  FillError(status, error);
  return -1;
}

Result<int64_t> ValueOr(const Status& status, int64_t value = 0) {
  if (status.ok()) return value;
  return status;
}

std::string TextOf(const char* text) { return text == nullptr ? "" : text; }

Result<int64_t> Register(const char* label, int32_t parts, void* const* bases,
                         const int32_t* devices, int64_t pages, int64_t page_bytes,
                         int64_t memory) {
  if (parts < 1 || parts > kPartsMax || bases == nullptr || devices == nullptr) {
    return AQUA_ERROR(AQUA_INVALID, "a store of %d parts: expected 1 to %d, with bases and devices",
                      parts, kPartsMax);
  }
  std::vector<Part> list;
  for (int32_t i = 0; i < parts; ++i) {
    AQUA_RETURN_IF_ERROR(CheckDevice(devices[i]));
    list.push_back({static_cast<std::byte*>(bases[i]), devices[i]});
  }
  std::shared_ptr<Memory> holder;
  if (memory != 0) {
    Result<std::shared_ptr<Memory>> found = TheProcess().memories.Find(memory);
    AQUA_RETURN_IF_ERROR(found.status());
    holder = std::move(found).value();
  }
  const auto store = TheProcess().stores.Register(TextOf(label), std::move(list), pages, page_bytes,
                                                  std::move(holder));
  AQUA_RETURN_IF_ERROR(store.status());
  return store.value()->handle;
}

// The part of a page that is read or written now.
struct Spot {
  std::shared_ptr<Store> store;
  int64_t offset;
};

Result<Spot> FindSpot(int32_t handle, int32_t part, int64_t page, const void* buffer) {
  const Result<std::shared_ptr<Store>> found = TheProcess().stores.Find(handle);
  AQUA_RETURN_IF_ERROR(found.status());
  const std::shared_ptr<Store>& store = found.value();
  if (part < 0 || part >= static_cast<int64_t>(store->parts.size()) || page < 0 ||
      page >= store->pages) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE,
                      "part %d, page %lld of \"%s\": it has %zu parts, %lld pages", part,
                      static_cast<long long>(page), store->label.c_str(),
                      store->parts.size(), static_cast<long long>(store->pages));
  }
  if (buffer == nullptr) return AQUA_ERROR(AQUA_INVALID, "a page's bytes: expected an address");
  return Spot{store, page * store->page_bytes};
}

}  // namespace

Process& TheProcess() {
  static Process& process = *std::make_unique<Process>().release();
  return process;
}

}  // namespace aqua

using aqua::Guarded;
using aqua::Result;
using aqua::TextOf;
using aqua::TheProcess;
using aqua::ValueOr;

extern "C" {

int32_t aqua_abi_version(void) { return AQUA_ABI_VERSION; }

const char* aqua_build_info(void) {
  static const std::string info = [] {
    const int cuda = aqua::CudaVersion();
    return std::string("{\"abi\": ") + std::to_string(AQUA_ABI_VERSION) + ", \"ffi_api\": [" +
           std::to_string(XLA_FFI_API_MAJOR) + ", " + std::to_string(XLA_FFI_API_MINOR) +
           "], \"compiler\": \"" + __VERSION__ + "\", \"platform\": \"" + aqua::PlatformName() +
           "\", \"cuda\": " + (cuda == 0 ? "null" : std::to_string(cuda)) + "}";
  }();
  return info.c_str();
}

int64_t aqua_start(int32_t threads, const int32_t* cores, int32_t core_count, aqua_error* error) {
  return Guarded(error, [&]() -> Result<int64_t> {
    if (threads < 1 || threads > aqua::kThreadsMax) {
      return AQUA_ERROR(AQUA_OUT_OF_RANGE, "%d transfer threads: expected 1 to %d", threads,
                        aqua::kThreadsMax);
    }
    if (core_count < 0 || (core_count > 0 && cores == nullptr)) {
      return AQUA_ERROR(AQUA_INVALID, "%d cores without a list: expected an array", core_count);
    }
    auto copier = aqua::MakeCopier(threads, std::vector<int>(cores, cores + core_count));
    AQUA_RETURN_IF_ERROR(copier.status());
    return ValueOr(TheProcess().transfers.Start(std::move(copier).value()));
  });
}

int64_t aqua_close(double seconds, aqua_error* error) {
  return Guarded(error, [&] { return ValueOr(TheProcess().transfers.Close(seconds)); });
}

int64_t aqua_memory_allocate(int32_t kind, int64_t bytes, int32_t device, aqua_error* error) {
  return Guarded(error, [&] { return TheProcess().memories.Allocate(kind, bytes, device); });
}

int64_t aqua_memory_export(int64_t memory, aqua_error* error) {
  return Guarded(error, [&]() -> Result<int64_t> {
    const auto found = TheProcess().memories.Find(memory);
    AQUA_RETURN_IF_ERROR(found.status());
    const Result<int> fd = found.value()->Export();
    AQUA_RETURN_IF_ERROR(fd.status());
    return fd.value();
  });
}

int64_t aqua_memory_import(int32_t kind, int32_t fd, int64_t bytes, int32_t device,
                           aqua_error* error) {
  return Guarded(error, [&] { return TheProcess().memories.Import(kind, fd, bytes, device); });
}

int64_t aqua_memory_address(int64_t memory, aqua_error* error) {
  return Guarded(error, [&]() -> Result<int64_t> {
    const auto found = TheProcess().memories.Find(memory);
    AQUA_RETURN_IF_ERROR(found.status());
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(found.value()->base()));
  });
}

int64_t aqua_memory_free(int64_t memory, aqua_error* error) {
  return Guarded(error, [&] { return ValueOr(TheProcess().memories.Free(memory)); });
}

int64_t aqua_memory_live_bytes(void) { return TheProcess().memories.live_bytes(); }

int64_t aqua_store_register(const char* label, int32_t parts, void* const* bases,
                            const int32_t* devices, int64_t pages, int64_t page_bytes,
                            int64_t memory, aqua_error* error) {
  return Guarded(error, [&] {
    return aqua::Register(label, parts, bases, devices, pages, page_bytes, memory);
  });
}

int64_t aqua_store_slot(int32_t store, aqua_error* error) {
  return Guarded(error, [&]() -> Result<int64_t> {
    const auto found = TheProcess().stores.Find(store);
    AQUA_RETURN_IF_ERROR(found.status());
    return found.value()->slot;
  });
}

int64_t aqua_store_at(const void* base, aqua_error* error) {
  return Guarded(error, [&]() -> Result<int64_t> {
    const auto store = TheProcess().stores.FindPart(base).first;
    if (store) return int64_t{store->handle};
    return AQUA_ERROR(AQUA_STALE, "no part of a live store begins at %p", base);
  });
}

int64_t aqua_store_retire(int32_t store, const char* why, aqua_error* error) {
  return Guarded(error, [&] { return TheProcess().transfers.Retire(store, TextOf(why)); });
}

int64_t aqua_store_busy(int32_t store, aqua_error* error) {
  return Guarded(error, [&] { return TheProcess().transfers.Busy(store); });
}

int64_t aqua_store_read(int32_t store, int32_t part, int64_t page, void* into, aqua_error* error) {
  return Guarded(error, [&]() -> Result<int64_t> {
    const auto spot = aqua::FindSpot(store, part, page, into);
    AQUA_RETURN_IF_ERROR(spot.status());
    const aqua::Store& read = *spot.value().store;
    return ValueOr(aqua::ReadBytes(read.parts[part], spot.value().offset, read.page_bytes, into),
                   read.page_bytes);
  });
}

int64_t aqua_store_write(int32_t store, int32_t part, int64_t page, const void* from,
                         aqua_error* error) {
  return Guarded(error, [&]() -> Result<int64_t> {
    const auto spot = aqua::FindSpot(store, part, page, from);
    AQUA_RETURN_IF_ERROR(spot.status());
    const aqua::Store& written = *spot.value().store;
    return ValueOr(
        aqua::WriteBytes(written.parts[part], spot.value().offset, written.page_bytes, from),
        written.page_bytes);
  });
}

int64_t aqua_store_clear(int32_t store, aqua_error* error) {
  return Guarded(error, [&]() -> Result<int64_t> {
    const auto found = TheProcess().stores.Find(store);
    AQUA_RETURN_IF_ERROR(found.status());
    const int64_t bytes = found.value()->pages * found.value()->page_bytes;
    for (const aqua::Part& part : found.value()->parts) {
      AQUA_RETURN_IF_ERROR(aqua::ZeroBytes(part, 0, bytes));
    }
    return bytes * static_cast<int64_t>(found.value()->parts.size());
  });
}

int64_t aqua_copy_open(int32_t source, int32_t target, const int32_t* sources,
                       const int32_t* targets, int32_t count, int32_t pool, aqua_error* error) {
  return Guarded(error, [&] {
    return TheProcess().transfers.Open(source, target, sources, targets, count, pool);
  });
}

int64_t aqua_fence_open(int32_t pool, const int64_t* tickets, int32_t count, double seconds,
                        aqua_error* error) {
  return Guarded(error,
                 [&] { return TheProcess().transfers.OpenFence(pool, tickets, count, seconds); });
}

int64_t aqua_ticket_abandon(int64_t ticket, const char* why, aqua_error* error) {
  return Guarded(error,
                 [&] { return ValueOr(TheProcess().transfers.Abandon(ticket, TextOf(why))); });
}

int64_t aqua_tickets_open(void) { return TheProcess().transfers.open_count(); }

int64_t aqua_wait(double seconds, aqua_completion* completions, int32_t count) {
  if (count < 1 || completions == nullptr) return -1;
  return TheProcess().transfers.Wait(seconds, completions, count);
}

void aqua_wake(void) { TheProcess().transfers.Wake(); }

}  // extern "C"
