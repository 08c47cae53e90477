// Which kernel this machine can run.
#include "attention/kernel.h"

#include "core/vectors.h"

namespace aqua {

const Kernel* FindKernel(ElementType type, int64_t head_dim, int lanes) {
  const int widest = WidestLanes();
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
