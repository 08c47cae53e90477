// The kernel for any machine.
#include "attention/kernel_impl.h"
#include "simd/portable.h"

namespace aqua {

const Kernel* PortableKernel(ElementType type) { return KernelOf<Portable>(type); }

}  // namespace aqua
