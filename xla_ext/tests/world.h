// One random history: pools and arenas of one page size, plans on them, and what must come of it.
//
// Knows: the C interface, the model, what may fail and why. Several worlds run
// at the same time over the one state of the process; they share no store.
#ifndef AQUA_TESTS_WORLD_H_
#define AQUA_TESTS_WORLD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "tests/collector.h"
#include "tests/model.h"
#include "tests/pool_threads.h"

namespace aqua::harness {

class World {
 public:
  // closings: the library may be closed and started again meanwhile.
  World(uint64_t seed, bool closings, Collector* collector);
  void Run();  // opens plans, waits for all, checks every byte, gives everything back

 private:
  // A pool's pages below `shared_from` are touched by tickets that the pool gates, and by programs
  // behind a fence on those; pages from there on by other pools' tickets too.
  struct Place {
    int32_t handle;
    int number;  // in the model
    int pages;
    int shared_from;
    int64_t memory;                   // arenas
    std::unique_ptr<std::byte[]> own;  // pools
    std::unique_ptr<PoolThreads> threads;
    bool retired = false;
    bool is_pool() const { return threads != nullptr; }
  };

  struct Copy {
    int64_t ticket;
    size_t source, target, gate;  // places; gate kNone: starts at once
    std::vector<int32_t> sources, targets;
    int parts_run;  // abandoned when fewer than all: just these have run
  };

  struct Fence {
    int64_t ticket;
    size_t pool;
    bool patient;  // does not time out
    std::vector<std::pair<int32_t, Stamp>> writes;  // of every part, behind it; stamp + part
  };

  // In the order of opening; one of the two.
  struct Event {
    bool is_copy;
    Copy copy;
    Fence fence;
  };

  static constexpr size_t kNone = SIZE_MAX;

  int Pick(int bound) { return static_cast<int>(random_() % static_cast<uint64_t>(bound)); }
  std::vector<int32_t> PickPages(int first, int end, int count);
  size_t PickPlace(bool pool);
  Stamp NewStamps(int count);

  void AddPool();
  void AddArena();
  void OpenCopy();
  void OpenFence();
  void OpenWrongPlan();
  void RetireOne();
  int64_t OpenRetrying(const Copy& copy);
  void CheckCompletions();
  void CheckBytes();
  void GiveBack();

  const bool closings_;
  Collector* const collector_;
  std::mt19937_64 random_;
  int parts_;
  int64_t page_bytes_;
  Stamp next_stamp_;
  Model model_;
  std::vector<Place> places_;
  std::vector<Event> events_;
};

}  // namespace aqua::harness
#endif  // AQUA_TESTS_WORLD_H_
