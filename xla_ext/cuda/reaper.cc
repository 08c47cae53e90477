// See reaper.h.
#include "cuda/reaper.h"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "core/clock.h"
#include "core/status.h"
#include "core/store.h"
#include "core/threads.h"

namespace aqua {
namespace {

// Lives as long as the process: memory may be given up while the interpreter exits.
class Reaper {
 public:
  static Reaper& The() {
    static Reaper* const reaper = new Reaper;
    return *reaper;
  }

  void Take(std::unique_ptr<Memory> memory) {
    const std::lock_guard<std::mutex> lock(mutex_);
    given_up_.push_back(std::move(memory));
    ++left_;
    changed_.notify_all();
  }

  bool Wait(double seconds) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_until(lock, DeadlineAfter(seconds), [this] { return left_ == 0; });
  }

 private:
  Reaper() { QuietThread("aqua-reaper", [this] { Run(); }).detach(); }

  [[noreturn]] void Run() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return !given_up_.empty(); });
      std::unique_ptr<Memory> memory = std::move(given_up_.front());
      given_up_.pop_front();
      lock.unlock();
      memory.reset();
      lock.lock();
      --left_;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Memory>> given_up_;
  int left_ = 0;  // given up and not yet destroyed
};

class LaterMemory final : public Memory {
 public:
  explicit LaterMemory(std::unique_ptr<Memory> memory) : memory_(std::move(memory)) {}
  ~LaterMemory() override { Reaper::The().Take(std::move(memory_)); }
  std::byte* base() const override { return memory_->base(); }
  int64_t bytes() const override { return memory_->bytes(); }
  Result<int> Export() const override { return memory_->Export(); }

 private:
  std::unique_ptr<Memory> memory_;
};

}  // namespace

std::unique_ptr<Memory> ReapedLater(std::unique_ptr<Memory> memory) {
  return std::make_unique<LaterMemory>(std::move(memory));
}

Status WaitForReaper(double seconds) {
  if (Reaper::The().Wait(seconds)) return {};
  return AQUA_ERROR(AQUA_TIMEOUT, "memory that was freed is not back after %g s: is the GPU stuck?",
                    seconds);
}

}  // namespace aqua
