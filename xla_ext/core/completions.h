// Completions on their way to whoever waits for them.
//
// Knows: a queue, and how to be woken. Does not know: tickets. Bounded by
// Transfers, which opens no ticket while kTicketsMax are open or unread.
#ifndef AQUA_CORE_COMPLETIONS_H_
#define AQUA_CORE_COMPLETIONS_H_

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>

#include "core/clock.h"
#include "core/status.h"

namespace aqua {

// Thread-safe.
class Completions {
 public:
  void Post(const aqua_completion& completion) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      queue_.push_back(completion);
    }
    posted_.notify_one();
  }

  // Up to `count`, oldest first; waits at most `seconds` for the first.
  int64_t Wait(double seconds, aqua_completion* into, int64_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    posted_.wait_until(lock, DeadlineAfter(seconds), [&] { return woken_ || !queue_.empty(); });
    woken_ = false;
    const int64_t taken = std::min<int64_t>(count, queue_.size());
    std::copy_n(queue_.begin(), taken, into);
    queue_.erase(queue_.begin(), queue_.begin() + taken);
    if (!queue_.empty()) posted_.notify_one();  // others may wait too
    return taken;
  }

  // Ends one Wait early, the next one if there is none now.
  void Wake() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      woken_ = true;
    }
    posted_.notify_one();
  }

  int64_t unread() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return queue_.size();
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<aqua_completion> queue_;
  bool woken_ = false;
};

}  // namespace aqua
#endif  // AQUA_CORE_COMPLETIONS_H_
