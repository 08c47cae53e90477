// Which kernel this machine can run.
#include "attention/kernel.h"

namespace aqua {
namespace {

// Floats in the widest vector that the machine has and the library was built for.
int WidestLanes() {
#if defined(__x86_64__)
  // All that CMakeLists.txt lets the compiler use in these files.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  return avx512 ? 16 : avx2 ? 8 : 4;
#else
  return 4;
#endif
}

}  // namespace

const Kernel* FindKernel(ElementType type, int64_t head_dim, int lanes) {
  static const int widest = WidestLanes();
  if (lanes == 0) {
    for (lanes = widest; lanes > 4 && head_dim % lanes != 0;) lanes /= 2;
  }
  if (lanes < 1 || lanes > widest || head_dim % lanes != 0) return nullptr;
#if defined(__x86_64__)
  if (lanes == 16) return Avx512Kernel(type);
  if (lanes == 8) return Avx2Kernel(type);
#endif
  return lanes == 4 ? PortableKernel(type) : nullptr;
}

}  // namespace aqua
