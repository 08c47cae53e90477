// See driver.h.
#include "cuda/driver.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cerrno>
#include <cstring>

#include "core/status.h"
#include "cuda/runtime.h"

namespace aqua {
namespace {

// The oldest CUDA whose versions of these functions are the ones that cuda.h declares.
constexpr unsigned kDriverVersion = 12000;

template <typename Function>
Status Look(const char* name, Function* function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult why = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  AQUA_RETURN_IF_CUDA_ERROR(cudaGetDriverEntryPointByVersion(name, &found, kDriverVersion,
                                                             cudaEnableLegacyStream, &why));
#else
  AQUA_RETURN_IF_CUDA_ERROR(cudaGetDriverEntryPoint(name, &found, cudaEnableLegacyStream, &why));
#endif
  if (found == nullptr) {
    return AQUA_ERROR(AQUA_UNAVAILABLE,
                      "the NVIDIA driver has no %s of CUDA %u (reason %d): a newer driver has it",
                      name, kDriverVersion, static_cast<int>(why));
  }
  *function = reinterpret_cast<Function>(found);
  return {};
}

#define AQUA_LOOK(name) AQUA_RETURN_IF_ERROR(Look("cu" #name, &driver->name))

Status LookAll(Driver* driver) {
  AQUA_LOOK(GetErrorName);
  AQUA_LOOK(DeviceGet);
  AQUA_LOOK(DeviceGetAttribute);
  AQUA_LOOK(MemGetAllocationGranularity);
  AQUA_LOOK(MemCreate);
  AQUA_LOOK(MemRelease);
  AQUA_LOOK(MemAddressReserve);
  AQUA_LOOK(MemAddressFree);
  AQUA_LOOK(MemMap);
  AQUA_LOOK(MemUnmap);
  AQUA_LOOK(MemSetAccess);
  AQUA_LOOK(MemExportToShareableHandle);
  AQUA_LOOK(MemImportFromShareableHandle);
  AQUA_LOOK(StreamWaitValue32);
  return {};
}

int32_t CodeOf(CUresult result) {
  switch (result) {
    case CUDA_ERROR_OUT_OF_MEMORY:
      return AQUA_EXHAUSTED;
    case CUDA_ERROR_INVALID_DEVICE:
      return AQUA_INVALID;
    case CUDA_ERROR_NOT_SUPPORTED:
    case CUDA_ERROR_NOT_PERMITTED:
      return AQUA_UNAVAILABLE;
    default:
      return AQUA_INTERNAL;
  }
}

}  // namespace

Result<const Driver*> TheDriver() {
  static Driver driver;
  static const Status status = LookAll(&driver);
  if (!status.ok()) return status;
  return static_cast<const Driver*>(&driver);
}

Status DriverStatus(CUresult result, const char* file, int line, const char* call) {
  if (result == CUDA_SUCCESS) return {};
  const int system = errno;  // of the system call that the driver made last, for what it is worth
  const char* name = "?";
  const Result<const Driver*> driver = TheDriver();
  if (driver.ok()) (void)driver.value()->GetErrorName(result, &name);
  return MakeError(CodeOf(result), file, line, "%s: %s (%d); errno %d (%s)", call, name,
                   static_cast<int>(result), system, std::strerror(system));
}

}  // namespace aqua
