// Stores: where the pages of pools and arenas lie, by handle.
//
// Knows: addresses, sizes, devices, who keeps the memory alive. Does not know:
// copies, XLA, CUDA, what a page holds.
//
//     LIVE --Retire()--> RETIRED    for good: a handle never names anything else
//
// A store is immutable but for that; whoever copies holds a shared_ptr, so its
// memory outlives the copy (invariant 1, ARCHITECTURE.md).
#ifndef AQUA_CORE_STORE_H_
#define AQUA_CORE_STORE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/status.h"

namespace aqua {

constexpr int kHostDevice = -1;
constexpr int kSlotsMax = 128;  // live stores: 7 bits of a page table's entry
constexpr int64_t kPagesMax = int64_t{1} << 24;  // of one store: 24 bits of that entry
constexpr int kPartsMax = 64;

// Memory that outlives everyone who uses it: unmaps when destroyed, and leaves nothing to read.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual std::byte* base() const = 0;
  virtual int64_t bytes() const = 0;
  // A descriptor that the caller owns, or AQUA_UNAVAILABLE.
  virtual Result<int> Export() const = 0;
};

struct Part {
  std::byte* base;
  int device;  // ordinal, or kHostDevice
};

struct Store {
  int32_t handle = 0;
  int32_t slot = 0;  // 0..kSlotsMax - 1 while live; used again after retirement
  std::string label;
  int64_t pages = 0;
  int64_t page_bytes = 0;  // of one part
  std::vector<Part> parts;
  std::shared_ptr<Memory> memory;  // null: the caller keeps it alive
  std::atomic<bool> retired{false};

  std::byte* Page(int part, int64_t page) const { return parts[part].base + page * page_bytes; }
};

// Thread-safe. Lookups by slot and by base take no lock that a copy holds for long.
class StoreTable {
 public:
  Result<std::shared_ptr<Store>> Register(std::string label, std::vector<Part> parts, int64_t pages,
                                          int64_t page_bytes, std::shared_ptr<Memory> memory);
  Result<std::shared_ptr<Store>> Find(int32_t handle) const;  // AQUA_STALE: retired or never was
  std::shared_ptr<Store> FindSlot(int32_t slot) const;        // null: no live store
  // The live store with a part that starts at `base`, and which part; null when there is none.
  std::pair<std::shared_ptr<Store>, int> FindPart(const void* base) const;
  bool WasRegistered(int32_t handle) const;  // live or retired
  Status Retire(int32_t handle);
  // Another one after every registration and retirement: what was found may be kept till then.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  void Forget(const Store& store);  // with mutex_ held

  mutable std::mutex mutex_;
  std::atomic<uint64_t> version_{0};
  int32_t next_handle_ = 1;
  std::unordered_map<int32_t, std::shared_ptr<Store>> live_;
  std::unordered_map<const void*, std::pair<std::shared_ptr<Store>, int>> by_base_;
  std::shared_ptr<Store> slots_[kSlotsMax];
};

}  // namespace aqua
#endif  // AQUA_CORE_STORE_H_
