// The kernel of linear layers for any machine (kernel.cc).
#include "linear/kernel_impl.h"
#include "simd/portable.h"

namespace aqua {

const LinearKernel* PortableLinearKernel(LinearType type) {
  return LinearKernelOf<Portable, 6>(type);
}

}  // namespace aqua
