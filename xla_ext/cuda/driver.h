// The driver functions that the runtime API lacks, found at run time.
//
// libcuda.so is not linked: a machine without a GPU can load the library and be told why it is of
// no use there.
#ifndef AQUA_CUDA_DRIVER_H_
#define AQUA_CUDA_DRIVER_H_

#include <cuda.h>

#include <cerrno>

#include "core/status.h"

namespace aqua {

// As cuda.h declares them.
struct Driver {
  decltype(&cuGetErrorName) GetErrorName;
  decltype(&cuDeviceGet) DeviceGet;
  decltype(&cuDeviceGetAttribute) DeviceGetAttribute;
  decltype(&cuMemGetAllocationGranularity) MemGetAllocationGranularity;
  decltype(&cuMemCreate) MemCreate;
  decltype(&cuMemRelease) MemRelease;
  decltype(&cuMemAddressReserve) MemAddressReserve;
  decltype(&cuMemAddressFree) MemAddressFree;
  decltype(&cuMemMap) MemMap;
  decltype(&cuMemUnmap) MemUnmap;
  decltype(&cuMemSetAccess) MemSetAccess;
  decltype(&cuMemExportToShareableHandle) MemExportToShareableHandle;
  decltype(&cuMemImportFromShareableHandle) MemImportFromShareableHandle;
  decltype(&cuStreamWaitValue32) StreamWaitValue32;
};

// Looked up once. AQUA_UNAVAILABLE names what is missing.
Result<const Driver*> TheDriver();

// OK, or an error that names the call and the CUresult. AQUA_UNAVAILABLE is what the driver itself
// calls not supported or not permitted, and nothing else: it must not hide a mistake of ours.
Status DriverStatus(CUresult result, const char* file, int line, const char* call);

#define AQUA_DRIVER_STATUS(call) \
  (errno = 0, ::aqua::DriverStatus((call), __FILE_NAME__, __LINE__, #call))
#define AQUA_RETURN_IF_DRIVER_ERROR(call) AQUA_RETURN_IF_ERROR(AQUA_DRIVER_STATUS(call))

}  // namespace aqua
#endif  // AQUA_CUDA_DRIVER_H_
