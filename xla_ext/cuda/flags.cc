// See flags.h.
#include "cuda/flags.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

#include "core/status.h"
#include "cuda/driver.h"
#include "cuda/runtime.h"

namespace aqua {
namespace {

constexpr size_t kLineBytes = 64;  // a word has a cache line of its own
static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

}  // namespace

void Flag::Raise() {
  word_->store(value_, std::memory_order_release);
  FlagPool::The().TakeBack(*this);
}

Status Flag::MakeWait(cudaStream_t stream) const {
  const Result<const Driver*> driver = TheDriver();
  if (!driver.ok()) return driver.status();
  void* address = nullptr;
  AQUA_RETURN_IF_CUDA_ERROR(cudaHostGetDevicePointer(&address, word_, 0));
  return AQUA_DRIVER_STATUS(driver.value()->StreamWaitValue32(
      stream, reinterpret_cast<CUdeviceptr>(address), value_, CU_STREAM_WAIT_VALUE_GEQ));
}

FlagPool& FlagPool::The() {
  static FlagPool* const pool = new FlagPool;
  return *pool;
}

Status FlagPool::Prepare() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (is_prepared_) return {};
  void* base = nullptr;
  AQUA_RETURN_IF_CUDA_ERROR(cudaHostAlloc(&base, kFlagsMax * kLineBytes,
                                          cudaHostAllocPortable | cudaHostAllocMapped));
  for (int i = 0; i < kFlagsMax; ++i) {
    void* const place = static_cast<std::byte*>(base) + i * kLineBytes;
    free_.push_back({new (place) std::atomic<uint32_t>(0), 0});
  }
  is_prepared_ = true;
  return {};
}

Result<Flag> FlagPool::Lend() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (free_.empty()) {
    return AQUA_ERROR(AQUA_EXHAUSTED, "%d fences wait already, or aqua_start was never called",
                      is_prepared_ ? kFlagsMax : 0);
  }
  const Word word = free_.back();
  free_.pop_back();
  return Flag(word.word, word.value + 1);
}

void FlagPool::TakeBack(const Flag& flag) {
  const std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back({flag.word_, flag.value_});
}

}  // namespace aqua
