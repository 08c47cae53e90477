// Gives memory back on a thread of its own.
//
// Unmapping page-locked memory may wait for all that its GPU is doing. The last holder of a memory
// is often the thread that has just seen a copy arrive, and what its GPU is doing may be to wait
// for that thread's next copy; so that thread must never wait for its GPU.
#ifndef AQUA_CUDA_REAPER_H_
#define AQUA_CUDA_REAPER_H_

#include <memory>

#include "core/status.h"
#include "core/store.h"

namespace aqua {

// The same memory, which the reaper destroys in its own time once the result is gone.
std::unique_ptr<Memory> ReapedLater(std::unique_ptr<Memory> memory);

// Waits until all that was given up is destroyed, `seconds` at most: new memory may need the room.
Status WaitForReaper(double seconds);

}  // namespace aqua
#endif  // AQUA_CUDA_REAPER_H_
