// What moves bytes: threads on CPU, streams on CUDA, behind one interface.
//
// Knows: a job is byte ranges to copy between two parts. Does not know: pages,
// tickets, order between jobs: the caller starts a job when it may run.
#ifndef AQUA_CORE_COPIER_H_
#define AQUA_CORE_COPIER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/status.h"

namespace aqua {

struct Range {
  const std::byte* source;
  std::byte* target;
  int64_t bytes;
};

// What a handler saw when the pool's array reached it. CPU: nothing to wait for. CUDA: an
// event recorded on XLA's stream, which the job's stream waits for first.
class Gate {
 public:
  virtual ~Gate() = default;
};

struct Job {
  std::vector<Range> ranges;  // disjoint targets; merged, so each is worth a copy
  int source_device;
  int target_device;            // ordinals, or kHostDevice
  std::shared_ptr<Gate> gate;   // null: no array to wait for
  // Called once, from a thread of the copier, when every byte has arrived (or has not).
  // started_ns: when the first byte moved, CLOCK_MONOTONIC.
  std::function<void(Status status, int64_t started_ns)> done;
};

class Copier {
 public:
  virtual ~Copier() = default;
  // Enqueues and returns. `done` is never called from inside Start.
  virtual void Start(Job job) = 0;
  // Ends the threads after the jobs started so far; bounded by the caller's patience, see
  // Transfers::Close. Idempotent.
  virtual void Join() = 0;
};

}  // namespace aqua
#endif  // AQUA_CORE_COPIER_H_
