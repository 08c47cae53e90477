// The arenas that attention may read beside a pool: found in the table of stores, kept until that
// changes. Attention asks for them once a layer.
#ifndef AQUA_CUDA_ARENA_BASES_H_
#define AQUA_CUDA_ARENA_BASES_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/store.h"
#include "cuda/attention.h"

namespace aqua {

// The arenas with pages like the pool's, by slot; of each the part that goes with the pool's. None
// for a pool that is not registered.
inline ArenaBases FindArenas(const StoreTable& stores, const void* pool) {
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

// FindArenas of every pool that asks. Thread-safe.
class ArenaCache {
 public:
  explicit ArenaCache(const StoreTable* stores) : stores_(*stores) {}

  ArenaBases Find(const void* pool) {
    std::lock_guard<std::mutex> lock(mutex_);
    // Read before the look: what is found is of this version or a later one, never kept for long.
    const uint64_t version = stores_.version();
    if (version != version_) by_pool_.clear();
    version_ = version;
    const auto [entry, is_new] = by_pool_.try_emplace(pool);
    if (is_new) entry->second = FindArenas(stores_, pool);
    return entry->second;
  }

 private:
  const StoreTable& stores_;
  std::mutex mutex_;
  uint64_t version_ = 0;
  std::unordered_map<const void*, ArenaBases> by_pool_;
};

}  // namespace aqua
#endif  // AQUA_CUDA_ARENA_BASES_H_
