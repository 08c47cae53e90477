// See runtime.h.
#include "cuda/runtime.h"

#include <cuda_runtime_api.h>

#include <utility>

#include "core/status.h"

namespace aqua {
namespace {

int32_t CodeOf(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return AQUA_EXHAUSTED;
    case cudaErrorInvalidDevice:
      return AQUA_INVALID;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorNotSupported:
    case cudaErrorNotPermitted:
    case cudaErrorOperatingSystem:
    case cudaErrorPeerAccessUnsupported:
    case cudaErrorHostMemoryAlreadyRegistered:
      return AQUA_UNAVAILABLE;
    default:
      return AQUA_INTERNAL;
  }
}

}  // namespace

Status CudaStatus(cudaError_t error, const char* file, int line, const char* call) {
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();
  return MakeError(CodeOf(error), file, line, "%s: %s (%s)", call, cudaGetErrorName(error),
                   cudaGetErrorString(error));
}

DeviceScope::DeviceScope(int device) {
  int current = -1;
  if (cudaGetDevice(&current) == cudaSuccess && current == device) return;
  if (cudaSetDevice(device) == cudaSuccess) before_ = current;
}

DeviceScope::~DeviceScope() {
  if (before_ >= 0) (void)cudaSetDevice(before_);
}

Result<Stream> MakeStream() {
  int least = 0, greatest = 0;
  AQUA_RETURN_IF_CUDA_ERROR(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  AQUA_RETURN_IF_CUDA_ERROR(
      cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest));
  return Stream(stream);
}

Result<Event> MakeEvent() {
  cudaEvent_t event = nullptr;
  AQUA_RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return Event(event);
}

}  // namespace aqua
