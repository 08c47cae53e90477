// The kernel for AVX-512 F, where the compiler is asked for them. Run only after a look at the machine.
#if defined(__AVX512F__)

#include "attention/kernel_impl.h"
#include "attention/simd_avx512.h"

namespace aqua {

const Kernel* Avx512Kernel(ElementType type) { return KernelOf<Avx512>(type); }

}  // namespace aqua

#else

#include "attention/kernel.h"

namespace aqua {

const Kernel* Avx512Kernel(ElementType) { return nullptr; }

}  // namespace aqua

#endif
