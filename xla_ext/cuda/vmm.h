// Memory of one GPU outside XLA's pool, that other GPUs and other processes can map.
//
// Knows: CUDA's virtual memory management. Does not know: who uses it, copies.
//
// Every device that can access the owner is given access at once, per allocation, so that copies
// and kernels of any device reach it.
#ifndef AQUA_CUDA_VMM_H_
#define AQUA_CUDA_VMM_H_

#include <cstdint>
#include <memory>

#include "core/status.h"
#include "core/store.h"

namespace aqua {

// Zeroed, and zeroed again before it goes. AQUA_EXHAUSTED: the GPU has not as much left.
Result<std::unique_ptr<Memory>> MakeDeviceMemory(int64_t bytes, int device);

// Maps what another process exported. bytes: as it allocated them.
Result<std::unique_ptr<Memory>> ImportDeviceMemory(int fd, int64_t bytes, int device);

}  // namespace aqua
#endif  // AQUA_CUDA_VMM_H_
