// The arithmetic of linear layers: a tile of rows by a panel of weights.
//
// Knows: floats, vector widths, how weights are packed. Does not know: XLA, threads, layers.
// Everything given was checked.
//
// A panel holds kPanelColumns columns of the weights. In float32 it is [in, columns]; in bfloat16
// [in / 2, columns, 2]: pairs of inputs side by side, a last odd one beside zeros. Columns past the
// last are zeros.
//
// An element of the product is one chain of fused multiply-adds over `in` in order. What cuts it
// into blocks stores the sum and goes on from there, which changes no bit; so a row's bits do not
// depend on how many rows there are, nor on tiles and threads. Kernels of different vectors may
// differ in the last bits of bfloat16 (AVX-512 BF16 has an instruction for pairs) and, where there
// is no fused multiply-add, of float32.
#ifndef AQUA_LINEAR_KERNEL_H_
#define AQUA_LINEAR_KERNEL_H_

#include <cstddef>
#include <cstdint>

namespace aqua {

constexpr int64_t kPanelColumns = 32;
constexpr int64_t kPanelStepBytes = 128;  // of a step: an input in float32, a pair in bfloat16
constexpr int64_t kLinearRowsMax = 14;    // of a tile, in any kernel

enum class LinearType { kFloat32, kBfloat16 };
enum class Activation { kNone, kSilu, kGeluTanh };

static inline int64_t StepsOf(LinearType type, int64_t in) {
  return type == LinearType::kFloat32 ? in : (in + 1) / 2;
}

// RMSNorm of the rows before the product (arXiv 1910.07467). scale: [in], null: there is none.
struct LinearNorm {
  const void* scale;
  float epsilon;
  bool from_one;  // `scale` is what the factor has above 1, applied before rounding
};

// What becomes of the sums of one tile and panel.
struct LinearEnd {
  Activation activation;  // of the sums, which are then multiplied by `factors`
  const float* factors;   // [rows, kPanelColumns], or null
  const void* bias;       // [columns] of the type of the weights, or null
  const void* added;      // [rows, stride] of the type of the rows, or null
  void* into;             // [rows, stride]
  bool into_float32;      // whatever the type of the rows
  int64_t stride, columns;
};

// Buffers are floats, 4 bytes a step in either type.
struct LinearKernel {
  int lanes;  // floats in a vector
  int64_t rows_most;
  // Rows `[rows, in]` to a tile `[steps, rows]`, normed if asked. scratch: `in` floats and one.
  void (*prepare)(const void* x, int64_t rows, int64_t in, const LinearNorm& norm, float* scratch,
                  float* tile);
  // sums `[rows, kPanelColumns]` take in the next `steps` of a tile and a panel; `first`: they are
  // nothing yet. ahead: memory to fetch meanwhile, `ahead_bytes` a step.
  void (*multiply)(const float* tile, int64_t rows, const std::byte* panel, int64_t steps,
                   bool first, const std::byte* ahead, int64_t ahead_bytes, float* sums);
  void (*end)(const float* sums, int64_t rows, const LinearEnd& end);
};

// The kernel with the widest vectors that this machine has, always the same. lanes 4, 8 or 16 asks
// for one; null: not on this machine or not in this build.
const LinearKernel* FindLinearKernel(LinearType type, int lanes);

// One per file that is built for its vectors; all but the first for x86-64 alone.
const LinearKernel* PortableLinearKernel(LinearType type);
const LinearKernel* Avx2LinearKernel(LinearType type);
const LinearKernel* Avx512LinearKernel(LinearType type);
const LinearKernel* Avx512Bfloat16LinearKernel();

}  // namespace aqua
#endif  // AQUA_LINEAR_KERNEL_H_
