// The kernel for AVX2 and FMA, where the compiler is asked for them. Run only after a look at the machine.
#if defined(__AVX2__) && defined(__FMA__)

#include "attention/kernel_impl.h"
#include "attention/simd_avx2.h"

namespace aqua {

const Kernel* Avx2Kernel(ElementType type) { return KernelOf<Avx2>(type); }

}  // namespace aqua

#else

#include "attention/kernel.h"

namespace aqua {

const Kernel* Avx2Kernel(ElementType) { return nullptr; }

}  // namespace aqua

#endif
