// Plans: batches of page copies, checked and merged into runs of neighbours.
//
// Knows: page numbers. Does not know: addresses, stores, tickets.
#ifndef AQUA_CORE_RUNS_H_
#define AQUA_CORE_RUNS_H_

#include <cstdint>
#include <vector>

#include "core/status.h"

namespace aqua {

struct Run {
  int32_t first;
  int32_t count;
};

// Pages [source, source + count) go to [target, target + count).
struct CopyRun {
  int32_t source;
  int32_t target;
  int32_t count;
};

// Sorted, disjoint, not adjacent.
using Runs = std::vector<Run>;

struct Plan {
  std::vector<CopyRun> copies;  // by target
  Runs reads;                   // of the source
  Runs writes;                  // of the target
};

// Names, sizes and identity of the two ends, for checks and texts.
struct PlanEnds {
  const char* source_label;
  const char* target_label;
  int64_t source_pages;
  int64_t target_pages;
  bool same_store;
};

// Refuses an empty plan, pages out of range, a target twice and, within one store, a page that is
// both source and target. A source may be named more than once.
Result<Plan> MakePlan(const PlanEnds& ends, const int32_t* sources, const int32_t* targets,
                      int32_t count);

// Whether some page is in both.
bool Overlap(const Runs& left, const Runs& right);

}  // namespace aqua
#endif  // AQUA_CORE_RUNS_H_
