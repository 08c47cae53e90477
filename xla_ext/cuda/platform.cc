// What core/platform.h asks for, on CUDA.
//
// Devices are CUDA ordinals as the caller gives them (jax: `device.local_hardware_id`); CheckDevice
// sees that there is such a device, and copies trust it.
#include "core/platform.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "aqua.h"
#include "core/copier.h"
#include "core/status.h"
#include "core/store.h"
#include "cuda/attention.h"
#include "cuda/driver.h"
#include "cuda/flags.h"
#include "cuda/host_memory.h"
#include "cuda/reaper.h"
#include "cuda/runtime.h"
#include "cuda/stream_copier.h"
#include "cuda/vmm.h"

namespace aqua {
namespace {

constexpr double kReaperSeconds = 30.0;

Status CheckOrdinal(int device) {
  int devices = 0;
  AQUA_RETURN_IF_CUDA_ERROR(cudaGetDeviceCount(&devices));
  if (device >= 0 && device < devices) return {};
  return AQUA_ERROR(AQUA_INVALID, "device %d: expected 0 to %d", device, devices - 1);
}

Result<std::unique_ptr<Memory>> Make(int32_t kind, int64_t bytes, int device) {
  switch (kind) {
    case AQUA_MEMORY_HOST:
      return MakePinnedMemory(bytes);
    case AQUA_MEMORY_SHARED:
      return MakeSharedMemory(bytes);
    case AQUA_MEMORY_DEVICE:
      AQUA_RETURN_IF_ERROR(CheckOrdinal(device));
      return MakeDeviceMemory(bytes, device);
    default:
      return AQUA_ERROR(AQUA_INVALID, "memory kind %d: expected host (1), shared (2) or device (3)",
                        kind);
  }
}

Result<std::unique_ptr<Memory>> Import(int32_t kind, int fd, int64_t bytes, int device) {
  switch (kind) {
    case AQUA_MEMORY_SHARED:
      return ImportSharedMemory(fd, bytes);
    case AQUA_MEMORY_DEVICE:
      AQUA_RETURN_IF_ERROR(CheckOrdinal(device));
      return ImportDeviceMemory(fd, bytes, device);
    default:
      return AQUA_ERROR(AQUA_INVALID, "memory kind %d has no descriptor: expected shared (2) or "
                                      "device (3)",
                        kind);
  }
}

Result<std::unique_ptr<Memory>> GivenBackLater(Result<std::unique_ptr<Memory>> made) {
  if (!made.ok()) return made.status();
  return ReapedLater(std::move(made).value());
}

Status LoadKernels() {
  int devices = 0;
  AQUA_RETURN_IF_CUDA_ERROR(cudaGetDeviceCount(&devices));
  for (int device = 0; device < devices; ++device) {
    const DeviceScope scope(device);
    AQUA_RETURN_IF_CUDA_ERROR(LoadAttention());
  }
  return {};
}

// Enqueues what `enqueue(stream)` does and waits for it. On a stream of its own: the null stream
// would wait for others of its kind.
template <typename Enqueue>
Status DoNow(int device, Enqueue&& enqueue) {
  const DeviceScope scope(device);
  Result<Stream> made = MakeStream();
  if (!made.ok()) return made.status();
  const Stream stream = std::move(made).value();
  AQUA_RETURN_IF_CUDA_ERROR(enqueue(stream.get()));
  return AQUA_CUDA_STATUS(cudaStreamSynchronize(stream.get()));
}

Status CopyNow(int device, void* target, const void* source, int64_t bytes) {
  return DoNow(device, [&](cudaStream_t stream) {
    return cudaMemcpyAsync(target, source, static_cast<size_t>(bytes), cudaMemcpyDefault, stream);
  });
}

}  // namespace

const char* PlatformName() { return "cuda"; }

int CudaVersion() { return CUDART_VERSION; }

Status CheckDevice(int device) {
  return device == kHostDevice ? Status{} : CheckOrdinal(device);
}

// What handlers need of CUDA is made here, where its lack is an error that harms
// nobody: a handler that fails takes the pool with it.
Result<std::unique_ptr<Copier>> MakeCopier(int, const std::vector<int>&) {
  AQUA_RETURN_IF_ERROR(CheckOrdinal(0));
  AQUA_RETURN_IF_ERROR(TheDriver().status());
  AQUA_RETURN_IF_ERROR(FlagPool::The().Prepare());
  AQUA_RETURN_IF_ERROR(LoadKernels());
  return std::unique_ptr<Copier>(std::make_unique<StreamCopier>());
}

Result<std::unique_ptr<Memory>> MakeMemory(int32_t kind, int64_t bytes, int device) {
  AQUA_RETURN_IF_ERROR(WaitForReaper(kReaperSeconds));
  return GivenBackLater(Make(kind, bytes, device));
}

Result<std::unique_ptr<Memory>> ImportMemory(int32_t kind, int fd, int64_t bytes, int device) {
  return GivenBackLater(Import(kind, fd, bytes, device));
}

Status ReadBytes(const Part& part, int64_t offset, int64_t bytes, void* into) {
  if (part.device != kHostDevice) return CopyNow(part.device, into, part.base + offset, bytes);
  std::memcpy(into, part.base + offset, static_cast<size_t>(bytes));
  return {};
}

Status WriteBytes(const Part& part, int64_t offset, int64_t bytes, const void* from) {
  if (part.device != kHostDevice) return CopyNow(part.device, part.base + offset, from, bytes);
  std::memcpy(part.base + offset, from, static_cast<size_t>(bytes));
  return {};
}

Status ZeroBytes(const Part& part, int64_t offset, int64_t bytes) {
  std::byte* const base = part.base + offset;
  const size_t size = static_cast<size_t>(bytes);
  if (part.device == kHostDevice) {
    std::memset(base, 0, size);
    return {};
  }
  return DoNow(part.device,
               [&](cudaStream_t stream) { return cudaMemsetAsync(base, 0, size, stream); });
}

}  // namespace aqua
