// One thread that calls back at set times: the time-outs of fences.
//
// Knows: times and what to call. Does not know: what a fence is.
#ifndef AQUA_CORE_ALARM_H_
#define AQUA_CORE_ALARM_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>

#include "core/clock.h"

namespace aqua {

// Thread-safe. `ring` runs on the alarm's thread and may call Set and Cancel.
class Alarm {
 public:
  using Entry = std::tuple<Clock::time_point, int64_t, int>;  // when, ticket, part

  explicit Alarm(std::function<void(int64_t ticket, int part)> ring);
  ~Alarm();  // joins

  void Set(const Entry& entry);
  void Cancel(const Entry& entry);  // no effect when it rings already
  void Join();                      // what is set does not ring any more; idempotent

 private:
  void Loop();

  const std::function<void(int64_t, int)> ring_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<Entry> entries_;
  bool joining_ = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace aqua
#endif  // AQUA_CORE_ALARM_H_
