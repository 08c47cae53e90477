// Random calls of linear layers on threads: against double precision, and bit for bit against
// fewer rows and another way of dividing the work.
#ifndef AQUA_TESTS_LINEAR_ROWS_H_
#define AQUA_TESTS_LINEAR_ROWS_H_

#include <cstdint>

namespace aqua::harness {

void RunLinearRows(uint64_t seed);

}  // namespace aqua::harness
#endif  // AQUA_TESTS_LINEAR_ROWS_H_
