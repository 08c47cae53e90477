// Checks of the harness: the first that fails prints the seed and ends the process.
#ifndef AQUA_TESTS_CHECK_H_
#define AQUA_TESTS_CHECK_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace aqua::harness {

inline std::atomic<uint64_t> current_seed{0};

// Nothing that goes well takes so long, not even under a sanitizer on a busy machine.
constexpr std::chrono::seconds kPatience{120};

#define CHECK_THAT(condition, ...)                                                  \
  do {                                                                              \
    if (!(condition)) {                                                             \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);          \
      std::fprintf(stderr, __VA_ARGS__);                                            \
      std::fprintf(stderr, "\nreplay with --rounds=1 --seed=%llu\n",                \
                   static_cast<unsigned long long>(::aqua::harness::current_seed)); \
      std::fflush(stderr);                                                          \
      std::_Exit(1);                                                                \
    }                                                                               \
  } while (false)

}  // namespace aqua::harness
#endif  // AQUA_TESTS_CHECK_H_
