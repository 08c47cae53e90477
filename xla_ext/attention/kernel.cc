// Which kernel this machine can run.
#include "attention/kernel.h"

namespace aqua {
namespace {

struct Machine {
  bool avx2 = false, avx512 = false;
};

// AVX-512 files may be built for all that x86-64-v4 has.
Machine Look() {
  Machine machine;
#if defined(__x86_64__)
  machine.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  machine.avx512 = machine.avx2 && __builtin_cpu_supports("avx512f") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  return machine;
}

}  // namespace

const Kernel* FindKernel(ElementType type, int lanes) {
  static const Machine machine = Look();
  const Kernel* kernels[] = {machine.avx512 ? Avx512Kernel(type) : nullptr,
                             machine.avx2 ? Avx2Kernel(type) : nullptr, PortableKernel(type)};
  for (const Kernel* kernel : kernels) {
    if (kernel && (lanes == 0 || kernel->lanes == lanes)) return kernel;
  }
  return nullptr;
}

}  // namespace aqua
