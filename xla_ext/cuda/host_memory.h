// Host memory that GPUs copy from and to without staging.
//
// Knows: page-locking, shared memory by descriptor. Does not know: who uses it, copies.
#ifndef AQUA_CUDA_HOST_MEMORY_H_
#define AQUA_CUDA_HOST_MEMORY_H_

#include <cstdint>
#include <memory>

#include "core/status.h"
#include "core/store.h"

namespace aqua {

// Page-locked for every device; zeroed, and zeroed again before it goes.
Result<std::unique_ptr<Memory>> MakePinnedMemory(int64_t bytes);

// The same, in a memfd that other processes can map.
Result<std::unique_ptr<Memory>> MakeSharedMemory(int64_t bytes);
// Maps what another process exported. Refuses a descriptor with fewer than `bytes` behind it.
Result<std::unique_ptr<Memory>> ImportSharedMemory(int fd, int64_t bytes);

}  // namespace aqua
#endif  // AQUA_CUDA_HOST_MEMORY_H_
