// A copy that leaves the caches to those who compute.
//
// Knows: bytes. Does not know: pages, threads.
#ifndef AQUA_CPU_STREAM_COPY_H_
#define AQUA_CPU_STREAM_COPY_H_

#include <cstddef>
#include <cstdint>

namespace aqua {

// As memcpy does, but long ranges go past the caches where the machine can: the target's lines are
// not read first, and nobody's lines make room for them. Measured on one core (EPYC, pages of
// 64 KiB to 2 MiB): 13.5 to 15.3 GB/s against 9.6 to 10.7 by memcpy.
//
// What was written is visible to whoever synchronises with the caller after the return.
void StreamCopy(std::byte* target, const std::byte* source, int64_t bytes);

}  // namespace aqua
#endif  // AQUA_CPU_STREAM_COPY_H_
