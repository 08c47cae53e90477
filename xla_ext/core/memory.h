// Memory of the library's own, by id.
//
// Knows: who holds it (ids, and stores through shared_ptr), how many bytes are
// not yet unmapped. Does not know: how it is mapped (platform.h).
//
//     HELD --Free()--> LEAVING --last store gone, last copy on it complete--> unmapped
#ifndef AQUA_CORE_MEMORY_H_
#define AQUA_CORE_MEMORY_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/status.h"
#include "core/store.h"

namespace aqua {

constexpr int64_t kMemoriesMax = 1 << 16;  // held ids

// Thread-safe. Outlives every memory that it gave out.
class MemoryTable {
 public:
  Result<int64_t> Allocate(int32_t kind, int64_t bytes, int device);
  Result<int64_t> Import(int32_t kind, int fd, int64_t bytes, int device);
  Result<std::shared_ptr<Memory>> Find(int64_t id) const;  // AQUA_STALE: freed or never was
  Status Free(int64_t id);
  int64_t live_bytes() const { return live_bytes_.load(); }

 private:
  Result<int64_t> Hold(Result<std::unique_ptr<Memory>> made);

  mutable std::mutex mutex_;
  int64_t next_id_ = 1;
  std::unordered_map<int64_t, std::shared_ptr<Memory>> held_;
  std::atomic<int64_t> live_bytes_{0};
};

}  // namespace aqua
#endif  // AQUA_CORE_MEMORY_H_
