// Reads completions on a thread of its own and keeps them by ticket: each must come once.
#ifndef AQUA_TESTS_COLLECTOR_H_
#define AQUA_TESTS_COLLECTOR_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "aqua.h"
#include "tests/check.h"

namespace aqua::harness {

class Collector {
 public:
  Collector() : thread_([this] { Run(); }) {}
  ~Collector() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
    }
    aqua_wake();
    thread_.join();
  }

  aqua_completion Await(int64_t ticket) {
    std::unique_lock<std::mutex> lock(mutex_);
    const bool came =
        changed_.wait_for(lock, kPatience, [&] { return completions_.count(ticket) > 0; });
    CHECK_THAT(came, "ticket %lld was lost", static_cast<long long>(ticket));
    return completions_.at(ticket);
  }

  bool Has(int64_t ticket) {
    std::lock_guard<std::mutex> lock(mutex_);
    return completions_.count(ticket) > 0;
  }

 private:
  void Run() {
    aqua_completion read[7];
    while (true) {
      const int64_t count = aqua_wait(0.2, read, 7);
      std::lock_guard<std::mutex> lock(mutex_);
      for (int64_t i = 0; i < count; ++i) {
        const bool first = completions_.emplace(read[i].ticket, read[i]).second;
        CHECK_THAT(first, "ticket %lld came twice", static_cast<long long>(read[i].ticket));
      }
      changed_.notify_all();
      if (ending_ && count == 0) return;
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<int64_t, aqua_completion> completions_;
  bool ending_ = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace aqua::harness
#endif  // AQUA_TESTS_COLLECTOR_H_
