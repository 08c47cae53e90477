// What the machine has left of its own memory. Does not know: what it is wanted for, GPUs.
#ifndef AQUA_CORE_MACHINE_H_
#define AQUA_CORE_MACHINE_H_

#include <cstdint>

#include "core/status.h"

namespace aqua {

// AQUA_EXHAUSTED where host memory of `bytes` cannot be had without taking it from others: who
// fills it all the same finds that the kernel ends some process.
Status CheckAvailable(int64_t bytes);

}  // namespace aqua
#endif  // AQUA_CORE_MACHINE_H_
