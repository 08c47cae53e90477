// The kernel for AVX2 and FMA: built for it by CMakeLists.txt, run after a look at the machine
// (kernel.cc).
#include "attention/kernel_impl.h"
#include "simd/avx2.h"

namespace aqua {

const Kernel* Avx2Kernel(ElementType type) { return KernelOf<Avx2>(type); }

}  // namespace aqua
