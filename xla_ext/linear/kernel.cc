// Which kernel this machine can run.
#include "linear/kernel.h"

#include "core/vectors.h"

namespace aqua {

const LinearKernel* FindLinearKernel(LinearType type, int lanes) {
  const int widest = WidestLanes();
  if (lanes == 0) lanes = widest;
  if (lanes > widest) return nullptr;
#if defined(__x86_64__)
  if (lanes == 16 && type == LinearType::kBfloat16 && HasBfloat16Products()) {
    return Avx512Bfloat16LinearKernel();
  }
  if (lanes == 16) return Avx512LinearKernel(type);
  if (lanes == 8) return Avx2LinearKernel(type);
#endif
  return lanes == 4 ? PortableLinearKernel(type) : nullptr;
}

}  // namespace aqua
