// Random calls of attention on threads: against double precision, and bit for bit against another
// way of dividing the work.
#ifndef AQUA_TESTS_ATTENTION_ROWS_H_
#define AQUA_TESTS_ATTENTION_ROWS_H_

#include <cstdint>

namespace aqua::harness {

void RunAttentionRows(uint64_t seed);

}  // namespace aqua::harness
#endif  // AQUA_TESTS_ATTENTION_ROWS_H_
