#include "cpu/bare_copy.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/threads.h"

namespace {

void Copy(const aqua_range& range) {
  std::memcpy(range.target, range.source, static_cast<size_t>(range.bytes));
}

}  // namespace

int64_t aqua_bare_copy(const aqua_range* ranges, int64_t count, int32_t threads) {
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t i = next++; i < count; i = next++) Copy(ranges[i]);
  };
  bool failed = false;
  std::vector<std::thread> others;
  others.reserve(threads);
  const int64_t begin = aqua::NowNanoseconds();
  try {
    for (int32_t i = 1; i < threads; ++i) others.push_back(aqua::QuietThread("aqua-bare", work));
  } catch (const std::system_error&) {
    failed = true;
  }
  work();
  for (std::thread& other : others) other.join();
  return failed ? -1 : aqua::NowNanoseconds() - begin;
}

int64_t aqua_bare_stream(const aqua_range* ranges, int64_t count, int64_t period_ns,
                         const int32_t* stop) {
  auto due = aqua::Clock::now();
  int64_t copied = 0;
  while (__atomic_load_n(stop, __ATOMIC_RELAXED) == 0) {
    Copy(ranges[copied++ % count]);
    due += std::chrono::nanoseconds(period_ns);
    std::this_thread::sleep_until(due);
  }
  return copied;
}
