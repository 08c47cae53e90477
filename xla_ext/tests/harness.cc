// Replays random histories against a model, and random calls of attention and of linear
// layers: `harness --rounds=N --seed=S`.
//
// Round r has seed S + r. What fails prints its seed, with which it can be run
// alone. Built with ThreadSanitizer and with AddressSanitizer (CMakeLists.txt).
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "aqua.h"
#include "tests/attention_rows.h"
#include "tests/cases.h"
#include "tests/check.h"
#include "tests/collector.h"
#include "tests/linear_rows.h"
#include "tests/world.h"

namespace aqua::harness {
namespace {

constexpr int kWorlds = 2;
constexpr double kCloseSeconds = 60;

void StartLibrary(int threads) {
  aqua_error error;
  CHECK_THAT(aqua_start(threads, nullptr, 0, &error) == 0, "%s", error.text);
}

void CloseLibrary() {
  aqua_error error;
  CHECK_THAT(aqua_close(kCloseSeconds, &error) == 0, "%s", error.text);
}

void RunRound(uint64_t seed) {
  current_seed = seed;
  std::mt19937_64 random(seed);
  const bool closings = random() % 8 == 0;
  StartLibrary(1 + static_cast<int>(random() % 3));
  {
    Collector collector;
    std::vector<std::thread> threads;
    for (int i = 0; i < kWorlds; ++i) {
      threads.emplace_back([&collector, closings, world_seed = seed * kWorlds + i] {
        World(world_seed, closings, &collector).Run();
      });
    }
    if (closings) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
      CloseLibrary();
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
      StartLibrary(1 + static_cast<int>(random() % 3));
    }
    for (std::thread& thread : threads) thread.join();
    CHECK_THAT(aqua_tickets_open() == 0, "%lld tickets are open",
               static_cast<long long>(aqua_tickets_open()));
    CHECK_THAT(aqua_memory_live_bytes() == 0, "%lld bytes leaked",
               static_cast<long long>(aqua_memory_live_bytes()));
  }
  CloseLibrary();
  CloseLibrary();
}

uint64_t Flag(int argc, char** argv, const char* name, uint64_t otherwise) {
  const size_t length = std::strlen(name);
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], name, length) == 0 && argv[i][length] == '=') {
      return std::strtoull(argv[i] + length + 1, nullptr, 10);
    }
  }
  return otherwise;
}

int Main(int argc, char** argv) {
  const uint64_t rounds = Flag(argc, argv, "--rounds", 200);
  const uint64_t seed = Flag(argc, argv, "--seed", 1);
  RunCases();
  for (uint64_t round = 0; round < rounds; ++round) RunRound(seed + round);
  // As long as the rest would take, they would say nothing more.
  for (uint64_t round = 0; round < rounds; round += 4) {
    current_seed = seed + round;
    RunAttentionRows(seed + round);
    RunLinearRows(seed + round);
  }
  std::printf("%llu rounds of random plans and rows from seed %llu: every byte as expected\n",
              static_cast<unsigned long long>(rounds), static_cast<unsigned long long>(seed));
  return 0;
}

}  // namespace
}  // namespace aqua::harness

int main(int argc, char** argv) { return aqua::harness::Main(argc, argv); }
