#include "core/memory.h"

#include <utility>

#include "core/platform.h"

namespace aqua {
namespace {

Status CheckBytes(int64_t bytes) {
  if (bytes >= 1) return {};
  return AQUA_ERROR(AQUA_OUT_OF_RANGE, "memory of %lld bytes: expected at least 1",
                    static_cast<long long>(bytes));
}

}  // namespace

Result<int64_t> MemoryTable::Allocate(int32_t kind, int64_t bytes, int device) {
  AQUA_RETURN_IF_ERROR(CheckBytes(bytes));
  return Hold(MakeMemory(kind, bytes, device));
}

Result<int64_t> MemoryTable::Import(int32_t kind, int fd, int64_t bytes, int device) {
  AQUA_RETURN_IF_ERROR(CheckBytes(bytes));
  return Hold(ImportMemory(kind, fd, bytes, device));
}

Result<std::shared_ptr<Memory>> MemoryTable::Find(int64_t id) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = held_.find(id);
  if (found != held_.end()) return found->second;
  return AQUA_ERROR(AQUA_STALE, "memory %lld %s", static_cast<long long>(id),
                    id > 0 && id < next_id_ ? "was freed" : "was never allocated");
}

Status MemoryTable::Free(int64_t id) {
  Result<std::shared_ptr<Memory>> found = Find(id);
  AQUA_RETURN_IF_ERROR(found.status());
  std::lock_guard<std::mutex> lock(mutex_);
  // `found` outlives the lock: zeroing and unmapping take long.
  if (held_.erase(id) == 0) {
    return AQUA_ERROR(AQUA_STALE, "memory %lld was freed meanwhile", static_cast<long long>(id));
  }
  return {};
}

Result<int64_t> MemoryTable::Hold(Result<std::unique_ptr<Memory>> made) {
  AQUA_RETURN_IF_ERROR(made.status());
  std::unique_ptr<Memory> owned = std::move(made).value();
  const int64_t bytes = owned->bytes();
  live_bytes_ += bytes;
  const auto unmap = [this, bytes](Memory* memory) {
    std::default_delete<Memory>()(memory);
    live_bytes_ -= bytes;
  };
  // If this throws, `unmap` has run.
  std::shared_ptr<Memory> memory(owned.release(), unmap);
  std::lock_guard<std::mutex> lock(mutex_);
  if (static_cast<int64_t>(held_.size()) >= kMemoriesMax) {
    return AQUA_ERROR(AQUA_EXHAUSTED, "%lld memories are held, at most %lld can be",
                      static_cast<long long>(held_.size()), static_cast<long long>(kMemoriesMax));
  }
  held_.emplace(next_id_, std::move(memory));
  return next_id_++;
}

}  // namespace aqua
