// The kernel for AVX-512: built for it by CMakeLists.txt, run after a look at the machine
// (kernel.cc).
#include "attention/kernel_impl.h"
#include "simd/avx512.h"

namespace aqua {

const Kernel* Avx512Kernel(ElementType type) { return KernelOf<Avx512>(type); }

}  // namespace aqua
