// See stream_copier.h.
#include "cuda/stream_copier.h"

#include <cuda_runtime_api.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/copier.h"
#include "core/status.h"
#include "core/store.h"
#include "core/threads.h"
#include "cuda/runtime.h"

namespace aqua {
namespace {

constexpr auto kNapMin = std::chrono::microseconds(5);
constexpr auto kNapMax = std::chrono::microseconds(100);

std::atomic<int> batch_ranges_min{kBatchRangesMin};

Status EnablePeer(int device, int peer) {
  int can = 0;
  AQUA_RETURN_IF_CUDA_ERROR(cudaDeviceCanAccessPeer(&can, device, peer));
  if (!can) {
    return AQUA_ERROR(AQUA_UNAVAILABLE,
                      "device %d cannot access the memory of device %d: no peer access between "
                      "them on this machine",
                      device, peer);
  }
  const DeviceScope scope(device);
  const cudaError_t error = cudaDeviceEnablePeerAccess(peer, 0);
  if (error == cudaErrorPeerAccessAlreadyEnabled) {
    (void)cudaGetLastError();  // XLA did
    return {};
  }
  return AQUA_CUDA_STATUS(error);
}

cudaError_t CopyOne(const Job& job, const Range& range, cudaStream_t stream) {
  const size_t bytes = static_cast<size_t>(range.bytes);
  if (job.source_device == kHostDevice || job.target_device == kHostDevice) {
    return cudaMemcpyAsync(range.target, range.source, bytes, cudaMemcpyDefault, stream);
  }
  return cudaMemcpyPeerAsync(range.target, job.target_device, range.source, job.source_device,
                             bytes, stream);
}

// In stream order: a batch begins when the stream reaches it. Its copies are in no order among
// themselves; their targets are disjoint.
cudaError_t CopyBatch(const Job& job, cudaStream_t stream) {
#if CUDART_VERSION >= 12080
  std::vector<void*> targets;
  std::vector<const void*> sources;
  std::vector<size_t> bytes;
  for (const Range& range : job.ranges) {
    targets.push_back(range.target);
    sources.push_back(range.source);
    bytes.push_back(static_cast<size_t>(range.bytes));
  }
  cudaMemcpyAttributes attributes = {};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;
  size_t first = 0;  // the attributes are those of all copies from the first on
#if CUDART_VERSION >= 13000
  return cudaMemcpyBatchAsync(targets.data(), sources.data(), bytes.data(), targets.size(),
                              &attributes, &first, 1, stream);
#else
  std::vector<void*> sources_12(sources.size());
  std::transform(sources.begin(), sources.end(), sources_12.begin(),
                 [](const void* source) { return const_cast<void*>(source); });
  size_t failed = 0;
  return cudaMemcpyBatchAsync(targets.data(), sources_12.data(), bytes.data(), targets.size(),
                              &attributes, &first, 1, &failed, stream);
#endif
#else
  (void)job, (void)stream;
  return cudaErrorNotSupported;
#endif
}

Status Copy(const Job& job, cudaStream_t stream) {
  const int least = batch_ranges_min.load();
  if (least > 0 && static_cast<int>(job.ranges.size()) >= least) {
    const cudaError_t error = CopyBatch(job, stream);
    if (error != cudaErrorNotSupported && error != cudaErrorCallRequiresNewerDriver) {
      return CudaStatus(error, __FILE_NAME__, __LINE__, "cudaMemcpyBatchAsync");
    }
    (void)cudaGetLastError();
    batch_ranges_min = 0;  // a driver older than the toolkit: it knows single copies only
  }
  for (const Range& range : job.ranges) {
    AQUA_RETURN_IF_CUDA_ERROR(CopyOne(job, range, stream));
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<Gate>> StreamGate::Record(cudaStream_t stream) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  AQUA_RETURN_IF_CUDA_ERROR(cudaStreamIsCapturing(stream, &capture));
  if (capture != cudaStreamCaptureStatusNone) {
    return AQUA_ERROR(AQUA_INTERNAL, "pages cannot move while a graph is captured");
  }
  Result<Event> event = MakeEvent();
  if (!event.ok()) return event.status();
  AQUA_RETURN_IF_CUDA_ERROR(cudaEventRecord(event.value().get(), stream));
  return std::shared_ptr<Gate>(new StreamGate(std::move(event).value()));
}

// One pair of devices. Its thread alone touches what lies below the line.
class StreamCopier::Lane {
 public:
  Lane(int source, int target)
      : source_(source), target_(target), thread_(QuietThread("aqua-copy", [this] { Run(); })) {}
  ~Lane();

  void Add(Job job);
  void Stop(double patience_seconds);

 private:
  struct Flight {
    Job job;
    Status status;  // of what the host saw: a copy that CUDA refused
    int64_t started_ns;
    Event arrived;
  };

  void Run();
  bool TakeNew();
  bool LookAtGates();
  bool LookAtFlights();
  void Begin(Job job);
  void GiveUp();
  Status Open();
  // On the stream's side of a pair with the host; the source's, which pushes, of two devices.
  int device() const { return source_ == kHostDevice ? target_ : source_; }
  bool is_host_only() const { return device() == kHostDevice; }

  const int source_, target_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Job> added_;
  bool is_stopping_ = false;
  Clock::time_point patience_ends_;
  // ----
  Status opened_;  // why no job can run, if none can
  Stream stream_;
  std::deque<Job> waiting_;
  std::deque<Flight> flights_;
  std::chrono::microseconds nap_ = kNapMin;
  std::thread thread_;  // last: it uses all of the above
};

StreamCopier::Lane::~Lane() {
  Stop(kJoinSeconds);  // no effect when it was stopped before
  thread_.join();
}

void StreamCopier::Lane::Add(Job job) {
  const std::lock_guard<std::mutex> lock(mutex_);
  added_.push_back(std::move(job));
  changed_.notify_all();
}

void StreamCopier::Lane::Stop(double patience_seconds) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (is_stopping_) return;
  is_stopping_ = true;
  patience_ends_ = DeadlineAfter(patience_seconds);
  changed_.notify_all();
}

void StreamCopier::Lane::Run() {
  (void)prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);  // naps are shorter than the usual 50 us
  opened_ = Open();
  while (TakeNew()) {
    const bool gates_moved = LookAtGates();
    if (LookAtFlights() || gates_moved) nap_ = kNapMin;
  }
}

// Waits for something to do: for a new job, or, when there are jobs, for the end of a nap. False
// when all is done and nothing will come.
bool StreamCopier::Lane::TakeNew() {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto is_due = [this] { return is_stopping_ || !added_.empty(); };
  if (waiting_.empty() && flights_.empty()) {
    changed_.wait(lock, is_due);
  } else if (added_.empty()) {
    changed_.wait_for(lock, nap_);
    nap_ = std::min(nap_ * 5 / 4 + std::chrono::microseconds(1), kNapMax);
  }
  for (Job& job : added_) waiting_.push_back(std::move(job));
  added_.clear();
  if (!is_stopping_) return true;
  if (Clock::now() > patience_ends_) {
    lock.unlock();
    GiveUp();
    return false;
  }
  return !waiting_.empty() || !flights_.empty();
}

// Begins every job whose gate has opened, in the order of their coming; true when one did.
bool StreamCopier::Lane::LookAtGates() {
  std::deque<Job> closed;
  bool has_begun = false;
  for (Job& job : waiting_) {
    const auto* gate = static_cast<const StreamGate*>(job.gate.get());
    const cudaError_t state = gate == nullptr ? cudaSuccess : gate->Query();
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError();
      closed.push_back(std::move(job));
      continue;
    }
    has_begun = true;
    if (state == cudaSuccess && opened_.ok()) {
      Begin(std::move(job));
    } else {
      // An error of the stream that the gate is on: what the pages hold is void.
      job.done(opened_.ok() ? CudaStatus(state, __FILE_NAME__, __LINE__, "cudaEventQuery")
                            : opened_,
               0);
    }
  }
  waiting_ = std::move(closed);
  return has_begun;
}

void StreamCopier::Lane::Begin(Job job) {
  const int64_t started_ns = NowNanoseconds();
  if (is_host_only()) {
    for (const Range& range : job.ranges) {
      std::memcpy(range.target, range.source, static_cast<size_t>(range.bytes));
    }
    job.done({}, started_ns);
    return;
  }
  Result<Event> event = MakeEvent();
  if (!event.ok()) {
    job.done(event.status(), 0);
    return;
  }
  Flight flight{std::move(job), {}, started_ns, std::move(event).value()};
  flight.status = Copy(flight.job, stream_.get());
  // Recorded after a refusal too: some of the copies may be under way.
  const Status recorded = AQUA_CUDA_STATUS(cudaEventRecord(flight.arrived.get(), stream_.get()));
  if (flight.status.ok()) flight.status = recorded;
  flights_.push_back(std::move(flight));
}

// Copies arrive in the order of the stream; true when one has.
bool StreamCopier::Lane::LookAtFlights() {
  bool has_arrived = false;
  while (!flights_.empty()) {
    const cudaError_t state = cudaEventQuery(flights_.front().arrived.get());
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError();
      break;
    }
    Flight flight = std::move(flights_.front());
    flights_.pop_front();
    if (flight.status.ok()) {
      flight.status = CudaStatus(state, __FILE_NAME__, __LINE__, "cudaEventQuery");
    }
    flight.job.done(std::move(flight.status), flight.started_ns);
    has_arrived = true;
  }
  return has_arrived;
}

// A device that has stopped answering. Nothing may free the memory that it may yet write: what
// holds it is never destroyed.
void StreamCopier::Lane::GiveUp() {
  for (Job& job : waiting_) {
    job.done(AQUA_ERROR(AQUA_CLOSED, "closed before the pool's array came"), 0);
  }
  waiting_.clear();
  if (flights_.empty()) return;
  auto* const lost = new std::deque<Flight>(std::move(flights_));
  flights_.clear();
  (void)stream_.release();
  for (Flight& flight : *lost) {
    const std::function<void(Status, int64_t)> done = flight.job.done;  // a copy lives on in `lost`
    done(AQUA_ERROR(AQUA_TIMEOUT, "a copy from device %d to %d has not ended in time", source_,
                    target_),
         flight.started_ns);
  }
}

Status StreamCopier::Lane::Open() {
  if (is_host_only()) return {};
  if (source_ != kHostDevice && target_ != kHostDevice && source_ != target_) {
    AQUA_RETURN_IF_ERROR(EnablePeer(source_, target_));
    AQUA_RETURN_IF_ERROR(EnablePeer(target_, source_));
  }
  AQUA_RETURN_IF_CUDA_ERROR(cudaSetDevice(device()));  // of this thread, for good
  Result<Stream> stream = MakeStream();
  if (!stream.ok()) return stream.status();
  stream_ = std::move(stream).value();
  return {};
}

StreamCopier::StreamCopier(double join_seconds) : join_seconds_(join_seconds) {}
StreamCopier::~StreamCopier() { Join(); }

void StreamCopier::Start(Job job) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<Lane>& lane = lanes_[{job.source_device, job.target_device}];
  try {
    if (lane == nullptr) lane = std::make_unique<Lane>(job.source_device, job.target_device);
  } catch (const std::system_error&) {  // no more threads: to the caller, like no more memory
    throw std::bad_alloc();
  }
  lane->Add(std::move(job));
}

void StreamCopier::Join() {
  std::map<std::pair<int, int>, std::unique_ptr<Lane>> lanes;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    lanes.swap(lanes_);
  }
  for (auto& [pair, lane] : lanes) lane->Stop(join_seconds_);  // all at once: they wait together
}

}  // namespace aqua

int64_t aqua_cuda_set_batch_ranges_min(int32_t ranges) {
  aqua::batch_ranges_min = ranges;
  return 0;
}
