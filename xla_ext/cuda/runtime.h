// CUDA's errors as ours; streams, events and the current device as objects.
//
// Knows: the runtime API. Does not know: the driver API (driver.h), what runs on a stream.
#ifndef AQUA_CUDA_RUNTIME_H_
#define AQUA_CUDA_RUNTIME_H_

#include <cuda_runtime_api.h>

#include <memory>
#include <type_traits>

#include "core/status.h"

namespace aqua {

// OK, or an error that names the call and CUDA's reason. Clears what the runtime remembers.
Status CudaStatus(cudaError_t error, const char* file, int line, const char* call);

#define AQUA_CUDA_STATUS(call) ::aqua::CudaStatus((call), __FILE_NAME__, __LINE__, #call)
#define AQUA_RETURN_IF_CUDA_ERROR(call) AQUA_RETURN_IF_ERROR(AQUA_CUDA_STATUS(call))

// Makes a device current for a scope. Handlers run on XLA's threads, which keep their own.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = -1;  // to go back to; -1: none
};

struct StreamDeleter {
  void operator()(cudaStream_t stream) const { (void)cudaStreamDestroy(stream); }
};
struct EventDeleter {
  void operator()(cudaEvent_t event) const { (void)cudaEventDestroy(event); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamDeleter>;
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, EventDeleter>;

// On the current device. Streams do not wait for the null stream, and have the highest priority:
// copies should start when they can, and streams of another priority than XLA's have other queues
// in the hardware, so that a stream of XLA's that waits for a copy does not stand in its way.
Result<Stream> MakeStream();
Result<Event> MakeEvent();  // without a time

}  // namespace aqua
#endif  // AQUA_CUDA_RUNTIME_H_
