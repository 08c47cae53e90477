// The kernel of linear layers for AVX2 and FMA (kernel.cc).
#include "linear/kernel_impl.h"
#include "simd/avx2.h"

namespace aqua {

const LinearKernel* Avx2LinearKernel(LinearType type) { return LinearKernelOf<Avx2, 6>(type); }

}  // namespace aqua
