// What differs between the libraries: threads and mmap on CPU, streams and VMM on CUDA.
//
// Declared here; each library defines all of it once, in cpu/platform.cc or in
// cuda/platform.cc. Does not know: stores, tickets, XLA.
#ifndef AQUA_CORE_PLATFORM_H_
#define AQUA_CORE_PLATFORM_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "core/copier.h"
#include "core/status.h"
#include "core/store.h"

namespace aqua {

// "cpu" or "cuda".
const char* PlatformName();
// The version of CUDA that this library was built with (13000), 0: none.
int CudaVersion();

// Refuses a device that a store's part cannot lie on. CPU: any but kHostDevice.
Status CheckDevice(int device);

// Arguments as aqua_start has them; threads is at least 1.
Result<std::unique_ptr<Copier>> MakeCopier(int threads, const std::vector<int>& cores);

// Memory of our own, zeroed and all there: no copy meets its first use. Unmapped by its destructor,
// and zeroed before by whoever would else let others read it (imports: their owner). `kind` is one
// of aqua_memory_kind, `bytes` is at least 1; `device` is the caller's, unchecked.
Result<std::unique_ptr<Memory>> MakeMemory(int32_t kind, int64_t bytes, int device);
// `fd` stays the caller's.
Result<std::unique_ptr<Memory>> ImportMemory(int32_t kind, int fd, int64_t bytes, int device);

// Copies now, between a part and ordinary host memory, or zeroes, and returns when it is done. The
// range lies in the part: the caller has checked.
Status ReadBytes(const Part& part, int64_t offset, int64_t bytes, void* into);
Status WriteBytes(const Part& part, int64_t offset, int64_t bytes, const void* from);
Status ZeroBytes(const Part& part, int64_t offset, int64_t bytes);

}  // namespace aqua
#endif  // AQUA_CORE_PLATFORM_H_
