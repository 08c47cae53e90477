// The copier of the CUDA library: one stream and one thread for each pair of devices.
//
// Knows: gates (events on XLA's streams), streams, peer access, batches of copies. Does not know:
// pages, tickets, XLA.
//
// A lane is a pair (source device, target device), kHostDevice among them, so the two directions
// of a link do not wait for each other. Its thread holds a job back until its gate has opened, and
// only then gives its copies to the lane's stream:
//
//     WAITING --gate open--> IN FLIGHT --event after its copies reached--> done
//
// The stream could wait for the gate by itself (cudaStreamWaitEvent), but must not: jobs do not
// come in the order in which gates open, and a stream works in order. A job whose gate lies behind
// a fence on XLA's stream would stand before the job that the fence waits for, for ever.
//
// Threads look (cudaEventQuery) at short intervals rather than block: one waits for several gates
// and a copy at once.
#ifndef AQUA_CUDA_STREAM_COPIER_H_
#define AQUA_CUDA_STREAM_COPIER_H_

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "aqua.h"
#include "core/copier.h"
#include "core/status.h"
#include "cuda/runtime.h"

namespace aqua {

// An event on XLA's stream: what was enqueued there before it has run when it is reached.
class StreamGate final : public Gate {
 public:
  // The stream's device must be current. Refuses a stream that captures a graph.
  static Result<std::shared_ptr<Gate>> Record(cudaStream_t stream);

  // cudaSuccess: open; cudaErrorNotReady: not yet.
  cudaError_t Query() const { return cudaEventQuery(event_.get()); }

 private:
  explicit StreamGate(Event event) : event_(std::move(event)) {}

  const Event event_;
};

constexpr double kJoinSeconds = 10.0;

class StreamCopier final : public Copier {
 public:
  explicit StreamCopier(double join_seconds = kJoinSeconds);
  ~StreamCopier() override;  // joins

  // A pair without peer access fails with AQUA_UNAVAILABLE: CUDA would copy through the host and
  // say nothing.
  void Start(Job job) override;
  // Jobs whose gate does not open and copies that do not arrive in `join_seconds` are failed.
  void Join() override;

  class Lane;

 private:
  const double join_seconds_;
  std::mutex mutex_;
  std::map<std::pair<int, int>, std::unique_ptr<Lane>> lanes_;
};

// Jobs of at least this many ranges go to CUDA as one batch, where it knows batches.
constexpr int kBatchRangesMin = 4;

}  // namespace aqua

// Another number than kBatchRangesMin, from now on; 0: no batches. Of the CUDA library alone, for
// measurements.
extern "C" AQUA_EXPORT int64_t aqua_cuda_set_batch_ranges_min(int32_t ranges);

#endif  // AQUA_CUDA_STREAM_COPIER_H_
