// CLOCK_MONOTONIC, the clock of every time in aqua.h, and deadlines on it.
#ifndef AQUA_CORE_CLOCK_H_
#define AQUA_CORE_CLOCK_H_

#include <chrono>
#include <cstdint>

namespace aqua {

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC on Linux

constexpr double kWaitSecondsMax = 86400.0;  // nothing waits for longer

inline int64_t NowNanoseconds() {
  return std::chrono::nanoseconds(Clock::now().time_since_epoch()).count();
}

// NaN and negative: now.
inline Clock::time_point DeadlineAfter(double seconds) {
  if (!(seconds > 0)) seconds = 0;
  if (seconds > kWaitSecondsMax) seconds = kWaitSecondsMax;
  return Clock::now() + std::chrono::nanoseconds(static_cast<int64_t>(seconds * 1e9));
}

}  // namespace aqua
#endif  // AQUA_CORE_CLOCK_H_
