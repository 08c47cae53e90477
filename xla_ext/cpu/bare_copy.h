// Copies with nothing around them: what a mover on CPU is measured against.
//
// Knows: byte ranges, memcpy. Does not know: stores, tickets, order. Of the CPU
// library only, beside aqua.h, and used by nothing but benchmarks.
#ifndef AQUA_CPU_BARE_COPY_H_
#define AQUA_CPU_BARE_COPY_H_

#include <stdint.h>

#include "aqua.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const void* source;
  void* target;
  int64_t bytes;
} aqua_range;

// Copies every range once, on the calling thread and `threads` - 1 new ones. Each takes the next
// range when it is done with one, so give more ranges than threads. Returns the nanoseconds from
// the first byte to the last, or -1 when there can be no more threads.
AQUA_EXPORT int64_t aqua_bare_copy(const aqua_range* ranges, int64_t count, int32_t threads);

// Copies range after range, over and over, on the calling thread: one every `period_ns`, later
// ones sooner when it is behind. Returns how many, once *stop is not 0: at most a period later.
AQUA_EXPORT int64_t aqua_bare_stream(const aqua_range* ranges, int64_t count, int64_t period_ns,
                                     const int32_t* stop);

#ifdef __cplusplus
}  // extern "C"
#endif
#endif  // AQUA_CPU_BARE_COPY_H_
