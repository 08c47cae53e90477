// The kernel of linear layers for AVX-512 (kernel.cc).
#include "linear/kernel_impl.h"
#include "simd/avx512.h"

namespace aqua {

const LinearKernel* Avx512LinearKernel(LinearType type) { return LinearKernelOf<Avx512, 14>(type); }

}  // namespace aqua
