// See fake_cuda.h.
#include "cuda/tests/fake_cuda.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

struct CUstream_st {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;
  bool is_ending = false, is_busy = false;
  std::thread thread{[this] { Run(); }};

  void Run() {
    std::unique_lock<std::mutex> lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return is_ending || !work.empty(); });
      if (work.empty()) return;
      const std::function<void()> next = std::move(work.front());
      work.pop_front();
      is_busy = true;
      lock.unlock();
      next();
      lock.lock();
      is_busy = false;
      changed.notify_all();
    }
  }
};

// What was recorded last; an event outlives its handle while a stream has yet to reach it.
struct Reached {
  std::atomic<bool> is_reached{true};
};
struct CUevent_st {
  std::mutex mutex;
  std::shared_ptr<Reached> last = std::make_shared<Reached>();
};

namespace {

std::atomic<int> copy_microseconds{0}, refuse_in{0}, batch_count{0}, event_count{0};
thread_local int current_device = 0;

bool IsRefused() { return refuse_in.load() > 0 && refuse_in.fetch_sub(1) == 1; }

cudaError_t Copy(void* target, const void* source, size_t bytes, cudaStream_t stream) {
  if (IsRefused()) return cudaErrorInvalidValue;
  fake::Enqueue(stream, [=] {
    std::this_thread::sleep_for(std::chrono::microseconds(copy_microseconds.load()));
    std::memcpy(target, source, bytes);
  });
  return cudaSuccess;
}

CUresult ErrorName(CUresult, const char** name) {
  *name = "an error";
  return CUDA_SUCCESS;
}

CUresult WaitValue(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned) {
  const auto* const word = reinterpret_cast<const std::atomic<uint32_t>*>(address);
  fake::Enqueue(stream, [=] {
    while (static_cast<int32_t>(word->load(std::memory_order_acquire) - value) < 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  });
  return CUDA_SUCCESS;
}

}  // namespace

namespace fake {

void Enqueue(cudaStream_t stream, std::function<void()> work) {
  const std::lock_guard<std::mutex> lock(stream->mutex);
  stream->work.push_back(std::move(work));
  stream->changed.notify_all();
}

void Drain(cudaStream_t stream) {
  std::unique_lock<std::mutex> lock(stream->mutex);
  stream->changed.wait(lock, [=] { return stream->work.empty() && !stream->is_busy; });
}

void SetCopyMicroseconds(int microseconds) { copy_microseconds = microseconds; }
void RefuseCopy(int n) { refuse_in = n; }
int batches() { return batch_count; }
int live_events() { return event_count; }

}  // namespace fake

extern "C" {

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorInvalidValue ? "cudaErrorInvalidValue" : "another error";
}
const char* cudaGetErrorString(cudaError_t) { return "as the fake says"; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = fake::kDevices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= fake::kDevices) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  *can = device < 2 && peer < 2;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaErrorPeerAccessAlreadyEnabled; }
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    const std::lock_guard<std::mutex> lock(stream->mutex);
    stream->is_ending = true;
    stream->changed.notify_all();
  }
  stream->thread.join();
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  ++event_count;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --event_count;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  auto next = std::make_shared<Reached>();
  next->is_reached = false;
  {
    const std::lock_guard<std::mutex> lock(event->mutex);
    event->last = next;
  }
  fake::Enqueue(stream, [next] { next->is_reached = true; });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard<std::mutex> lock(event->mutex);
  return event->last->is_reached ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return Copy(target, source, bytes, stream);
}
cudaError_t cudaMemcpyPeerAsync(void* target, int, const void* source, int, size_t bytes,
                                cudaStream_t stream) {
  return Copy(target, source, bytes, stream);
}
cudaError_t cudaMemcpyBatchAsync(void* const* targets, const void* const* sources,
                                 const size_t* bytes, size_t count, cudaMemcpyAttributes*,
                                 size_t* first, size_t attributes, cudaStream_t stream) {
  if (attributes != 1 || *first != 0) return cudaErrorInvalidValue;
  ++batch_count;
  if (IsRefused()) return cudaErrorInvalidValue;
  for (size_t i = count; i > 0; --i) {  // in no order
    Copy(targets[i - 1], sources[i - 1], bytes[i - 1], stream);
  }
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** base, size_t bytes, unsigned) {
  *base = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  return cudaSuccess;
}
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  *device = host;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* why) {
  *why = cudaDriverEntryPointSuccess;
  *function = reinterpret_cast<void*>(uintptr_t{1});  // of the others nothing is called here
  const auto is = [name](const char* wanted) { return std::strcmp(name, wanted) == 0; };
  if (is("cuStreamWaitValue32")) *function = reinterpret_cast<void*>(&WaitValue);
  if (is("cuGetErrorName")) *function = reinterpret_cast<void*>(&ErrorName);
  return cudaSuccess;
}

}  // extern "C"
