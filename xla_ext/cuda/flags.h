// Flags that the host raises and streams wait for.
//
// Knows: page-locked words, cuStreamWaitValue32. Does not know: fences, tickets.
//
// A fence can come before a copy that it waits for has begun, when there is no event to wait for
// yet. So XLA's stream waits for a word of host memory, which the thread that sees the last copy
// arrive writes. CUDA does not see that order. Of the streams behind it none holds a copy: the
// copier gives a stream only what can run at once (stream_copier.h).
#ifndef AQUA_CUDA_FLAGS_H_
#define AQUA_CUDA_FLAGS_H_

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "core/status.h"

namespace aqua {

// One word, used for one wait after another: the n-th waits until the word is at least n, compared
// cyclically. So it may be lent anew as soon as it was raised, whether or not the stream has come
// by.
class Flag {
 public:
  // Called once, by any thread.
  void Raise();
  bool is_raised() const {
    return static_cast<int32_t>(word_->load(std::memory_order_acquire) - value_) >= 0;
  }
  // `stream` goes on when the flag is raised. Its device must be current.
  Status MakeWait(cudaStream_t stream) const;

 private:
  friend class FlagPool;
  Flag(std::atomic<uint32_t>* word, uint32_t value) : word_(word), value_(value) {}

  std::atomic<uint32_t>* word_;
  uint32_t value_;
};

constexpr int kFlagsMax = 4096;  // lent and not raised

// Thread-safe; lives as long as the process, since a stream may still wait.
class FlagPool {
 public:
  static FlagPool& The();
  // Allocates all flags, once: page-locking memory may wait for what the GPU is doing.
  Status Prepare();
  Result<Flag> Lend();

 private:
  friend class Flag;
  struct Word {
    std::atomic<uint32_t>* word;
    uint32_t value;  // of the flag lent last
  };

  void TakeBack(const Flag& flag);

  std::mutex mutex_;
  bool is_prepared_ = false;
  std::vector<Word> free_;
};

}  // namespace aqua
#endif  // AQUA_CUDA_FLAGS_H_
