#include "core/vectors.h"

namespace aqua {

int WidestLanes() {
#if defined(__x86_64__)
  // All that CMakeLists.txt lets the compiler use in the files of each width.
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                           __builtin_cpu_supports("f16c");
  static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                             __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512dq") &&
                             __builtin_cpu_supports("avx512vl");
  return avx512 ? 16 : avx2 ? 8 : 4;
#else
  return 4;
#endif
}

bool HasBfloat16Products() {
#if defined(__x86_64__)
  static const bool has = WidestLanes() == 16 && __builtin_cpu_supports("avx512bf16");
  return has;
#else
  return false;
#endif
}

}  // namespace aqua
