// Which vectors this machine has.
#ifndef AQUA_CORE_VECTORS_H_
#define AQUA_CORE_VECTORS_H_

namespace aqua {

// Floats in the widest vector that the machine has and the library was built for: 4, 8 or 16.
int WidestLanes();
// Products of bfloat16 pairs, of sixteen floats.
bool HasBfloat16Products();

}  // namespace aqua
#endif  // AQUA_CORE_VECTORS_H_
