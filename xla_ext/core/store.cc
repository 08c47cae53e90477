#include "core/store.h"

#include <algorithm>

namespace aqua {
namespace {

constexpr size_t kLabelMax = 63;
constexpr int64_t kAddressBits = 48;

// Half-open ranges of addresses.
struct Extent {
  uintptr_t begin;
  uintptr_t end;
};

Extent ExtentOf(const Part& part, int64_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(part.base);
  return {begin, begin + static_cast<uintptr_t>(bytes)};
}

bool Meet(const Extent& a, const Extent& b) { return a.begin < b.end && b.begin < a.end; }

Status CheckSizes(const std::string& label, const std::vector<Part>& parts, int64_t pages,
                  int64_t page_bytes) {
  if (parts.empty() || parts.size() > static_cast<size_t>(kPartsMax)) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "store \"%s\" of %zu parts: expected 1 to %d",
                      label.c_str(), parts.size(), kPartsMax);
  }
  if (pages < 1 || pages > kPagesMax) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "store \"%s\" of %lld pages: expected 1 to %lld",
                      label.c_str(), static_cast<long long>(pages),
                      static_cast<long long>(kPagesMax));
  }
  const int64_t page_bytes_max = (int64_t{1} << kAddressBits) / pages;
  if (page_bytes < 1 || page_bytes > page_bytes_max) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE,
                      "store \"%s\" of %lld pages of %lld bytes: expected 1 to %lld bytes",
                      label.c_str(), static_cast<long long>(pages),
                      static_cast<long long>(page_bytes), static_cast<long long>(page_bytes_max));
  }
  return {};
}

// Parts must lie in user space, not meet one another, and lie in `memory` when there is one.
Status CheckParts(const std::string& label, const std::vector<Part>& parts, int64_t bytes,
                  const Memory* memory) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const Extent extent = ExtentOf(parts[i], bytes);
    if (parts[i].base == nullptr || extent.end < extent.begin) {
      return AQUA_ERROR(AQUA_INVALID, "part %zu of store \"%s\" at %p: expected an address", i,
                        label.c_str(), static_cast<void*>(parts[i].base));
    }
    for (size_t j = 0; j < i; ++j) {
      if (Meet(extent, ExtentOf(parts[j], bytes))) {
        return AQUA_ERROR(AQUA_INVALID, "parts %zu and %zu of store \"%s\" overlap", j, i,
                          label.c_str());
      }
    }
    if (memory == nullptr) continue;
    const auto begin = reinterpret_cast<uintptr_t>(memory->base());
    if (extent.begin < begin || extent.end > begin + static_cast<uintptr_t>(memory->bytes())) {
      return AQUA_ERROR(AQUA_OUT_OF_RANGE,
                        "part %zu of store \"%s\", %lld bytes at %p, is not in its memory, %lld "
                        "bytes at %p",
                        i, label.c_str(), static_cast<long long>(bytes),
                        static_cast<void*>(parts[i].base), static_cast<long long>(memory->bytes()),
                        static_cast<void*>(memory->base()));
    }
  }
  return {};
}

Status CheckApart(const std::string& label, const std::vector<Part>& parts, int64_t bytes,
                  const Store& other) {
  for (const Part& theirs : other.parts) {
    for (const Part& ours : parts) {
      if (Meet(ExtentOf(ours, bytes), ExtentOf(theirs, other.pages * other.page_bytes))) {
        return AQUA_ERROR(AQUA_INVALID,
                          "store \"%s\" overlaps live store %d (\"%s\") at %p: retire that first",
                          label.c_str(), other.handle, other.label.c_str(),
                          static_cast<void*>(theirs.base));
      }
    }
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<Store>> StoreTable::Register(std::string label, std::vector<Part> parts,
                                                    int64_t pages, int64_t page_bytes,
                                                    std::shared_ptr<Memory> memory) {
  label.resize(std::min(label.size(), kLabelMax));
  AQUA_RETURN_IF_ERROR(CheckSizes(label, parts, pages, page_bytes));
  AQUA_RETURN_IF_ERROR(CheckParts(label, parts, pages * page_bytes, memory.get()));

  auto store = std::make_shared<Store>();
  store->label = std::move(label);
  store->pages = pages;
  store->page_bytes = page_bytes;
  store->parts = std::move(parts);
  store->memory = std::move(memory);

  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [handle, other] : live_) {
    AQUA_RETURN_IF_ERROR(CheckApart(store->label, store->parts, pages * page_bytes, *other));
  }
  const auto free_slot = std::find(std::begin(slots_), std::end(slots_), nullptr);
  if (free_slot == std::end(slots_) || next_handle_ == INT32_MAX) {
    return AQUA_ERROR(AQUA_EXHAUSTED, "store \"%s\": %zu stores are live, at most %d can be",
                      store->label.c_str(), live_.size(), kSlotsMax);
  }
  store->handle = next_handle_;
  store->slot = static_cast<int32_t>(free_slot - std::begin(slots_));
  live_.reserve(live_.size() + 1);  // may throw; what follows the first insertion does not
  by_base_.reserve(by_base_.size() + store->parts.size());
  live_.emplace(store->handle, store);
  try {
    for (size_t part = 0; part < store->parts.size(); ++part) {
      by_base_.emplace(store->parts[part].base, std::make_pair(store, static_cast<int>(part)));
    }
  } catch (...) {
    Forget(*store);
    throw;
  }
  *free_slot = store;
  ++next_handle_;
  ++version_;
  return store;
}

Result<std::shared_ptr<Store>> StoreTable::Find(int32_t handle) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = live_.find(handle);
  if (found != live_.end()) return found->second;
  return AQUA_ERROR(AQUA_STALE, "store %d %s (%zu are live)", handle,
                    handle > 0 && handle < next_handle_ ? "has retired" : "was never registered",
                    live_.size());
}

bool StoreTable::WasRegistered(int32_t handle) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return handle > 0 && handle < next_handle_;
}

std::shared_ptr<Store> StoreTable::FindSlot(int32_t slot) const {
  if (slot < 0 || slot >= kSlotsMax) return nullptr;
  std::lock_guard<std::mutex> lock(mutex_);
  return slots_[slot];
}

std::pair<std::shared_ptr<Store>, int> StoreTable::FindPart(const void* base) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_base_.find(base);
  if (found == by_base_.end()) return {nullptr, 0};
  return found->second;
}

Status StoreTable::Retire(int32_t handle) {
  AQUA_RETURN_IF_ERROR(Find(handle).status());
  std::shared_ptr<Store> store;  // outlives the lock: its memory may be scrubbed when it goes
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = live_.find(handle);
  if (found == live_.end()) {
    return AQUA_ERROR(AQUA_STALE, "store %d has retired meanwhile", handle);
  }
  store = found->second;
  store->retired = true;
  slots_[store->slot] = nullptr;
  ++version_;
  Forget(*store);
  return {};
}

void StoreTable::Forget(const Store& store) {
  for (const Part& part : store.parts) by_base_.erase(part.base);
  live_.erase(store.handle);
}

}  // namespace aqua
