// What kernel.h promises, for one vector width and one type of weights.
//
// Knows: the names of simd/portable.h. Each kernel_*.cc includes this once, built for its vectors.
// Everything is in an unnamed namespace and calls no library function that is inline: the linker
// would keep one copy of it, perhaps the one that only newer machines can run.
//
// Built with -ffp-contract=off: which products and sums are fused is written here.
#ifndef AQUA_LINEAR_KERNEL_IMPL_H_
#define AQUA_LINEAR_KERNEL_IMPL_H_

#include <cstddef>
#include <cstdint>

#include "linear/kernel.h"
#include "simd/functions.h"

namespace aqua {
namespace {

// A step of float32 weights: one input.
template <class Simd>
struct Float32Steps {
  using Element = float;
  using Vec = typename Simd::Vec;
  struct Weights {
    Vec vector;
  };
  static Weights Load(const std::byte* from) {
    return {Simd::Load(reinterpret_cast<const float*>(from))};
  }
  static Vec Add(Vec sum, float x, const Weights& weights) {
    return Simd::MultiplyAdd(Simd::Set(x), weights.vector, sum);
  }
};

// A step of bfloat16 weights: a pair of inputs, which share 32 bits in the tile too.
template <class Simd>
struct Bfloat16Steps {
  using Element = uint16_t;
  using Vec = typename Simd::Vec;
  struct Weights {
    Vec even, odd;
  };
  static Weights Load(const std::byte* from) {
    const Vec pairs = Simd::Load(reinterpret_cast<const float*>(from));
    return {Simd::LowHalves(pairs), Simd::HighHalves(pairs)};
  }
  static Vec Add(Vec sum, float x, const Weights& weights) {
    const Vec pair = Simd::Set(x);
    sum = Simd::MultiplyAdd(Simd::LowHalves(pair), weights.even, sum);
    return Simd::MultiplyAdd(Simd::HighHalves(pair), weights.odd, sum);
  }
};

template <class Simd, class Steps, int kRowsMost>
struct LinearArithmetic {
  using Vec = typename Simd::Vec;
  using Element = typename Steps::Element;
  static constexpr int kLanes = Simd::kLanes;
  static constexpr int64_t kPairs = sizeof(Element) == 4 ? 1 : 2;  // inputs of a step

  static float Wide(float x) { return x; }
  static float Wide(uint16_t x) {
    const uint32_t bits = uint32_t{x} << 16;
    float wide;
    __builtin_memcpy(&wide, &bits, sizeof(wide));
    return wide;
  }

  static void Prepare(const void* x, int64_t rows, int64_t in, const LinearNorm& norm,
                      float* scratch, float* tile) {
    const int64_t steps = (in + kPairs - 1) / kPairs;
    for (int64_t row = 0; row < rows; ++row) {
      const Element* from = static_cast<const Element*>(x) + row * in;
      if (norm.scale != nullptr) {
        Element* normed = reinterpret_cast<Element*>(scratch);
        Normalise(from, in, norm, normed);
        from = normed;
      }
      for (int64_t step = 0; step < in / kPairs; ++step) {
        __builtin_memcpy(tile + step * rows + row, from + step * kPairs, 4);
      }
      if (in / kPairs < steps) {
        const Element last[2] = {from[in - 1], 0};
        __builtin_memcpy(tile + (steps - 1) * rows + row, last, 4);
      }
    }
  }

  static void Multiply(const float* tile, int64_t rows, const std::byte* panel, int64_t steps,
                       bool first, const std::byte* ahead, int64_t ahead_bytes, float* sums) {
    const Block block{tile, panel, steps, first, ahead, ahead_bytes, sums};
    Dispatch<kRowsMost>(rows, block);
  }

  static void End(const float* sums, int64_t rows, const LinearEnd& end) {
    alignas(64) float own[kPanelColumns];
    const int64_t columns = end.columns < kPanelColumns ? end.columns : kPanelColumns;
    for (int64_t row = 0; row < rows; ++row) {
      const float* from = sums + row * kPanelColumns;
      for (int64_t x = 0; x < kPanelColumns; x += kLanes) {
        Vec sum = Activate(end.activation, Simd::Load(from + x));
        if (end.factors != nullptr) {
          sum = Simd::Multiply(sum, Simd::Load(end.factors + row * kPanelColumns + x));
        }
        Simd::Store(own + x, sum);
      }
      if (end.bias != nullptr) {
        const Element* bias = static_cast<const Element*>(end.bias);
        for (int64_t x = 0; x < columns; ++x) own[x] += Wide(bias[x]);
      }
      if (end.added != nullptr) {
        const Element* added = static_cast<const Element*>(end.added) + row * end.stride;
        for (int64_t x = 0; x < columns; ++x) own[x] += Wide(added[x]);
      }
      if (end.into_float32) {
        float* into = static_cast<float*>(end.into) + row * end.stride;
        for (int64_t x = 0; x < columns; ++x) into[x] = own[x];
      } else {
        Element* into = static_cast<Element*>(end.into) + row * end.stride;
        for (int64_t x = 0; x < columns; ++x) Put(into + x, own[x]);
      }
    }
  }

 private:
  struct Block {
    const float* tile;
    const std::byte* panel;
    int64_t steps;
    bool first;
    const std::byte* ahead;
    int64_t ahead_bytes;
    float* sums;
  };

  // In the type of the rows, rounded as a model does that is written in it.
  static void Normalise(const Element* x, int64_t in, const LinearNorm& norm, Element* normed) {
    constexpr int64_t kSums = 16;  // whatever the vectors' width
    float squares[kSums] = {};
    int64_t whole = 0;
    for (; whole + kSums <= in; whole += kSums) {
      for (int64_t i = 0; i < kSums; ++i) {
        const float wide = Wide(x[whole + i]);
        squares[i] += wide * wide;
      }
    }
    for (int64_t i = whole; i < in; ++i) squares[i - whole] += Wide(x[i]) * Wide(x[i]);
    float sum = 0;
    for (int64_t i = 0; i < kSums; ++i) sum += squares[i];
    const float inverse = 1.0f / __builtin_sqrtf(sum / static_cast<float>(in) + norm.epsilon);
    const Element* scale = static_cast<const Element*>(norm.scale);
    for (int64_t i = 0; i < in; ++i) {
      const float own = Wide(x[i]) * inverse;
      if (norm.from_one) {
        Put(normed + i, own * (1.0f + Wide(scale[i])));
      } else {
        Put(normed + i, own);
        Put(normed + i, Wide(normed[i]) * Wide(scale[i]));
      }
    }
  }

  static Vec Activate(Activation activation, Vec x) {
    if (activation == Activation::kNone) return x;
    Vec at = x;
    if (activation == Activation::kGeluTanh) {  // x (1 + tanh(at / 2)) / 2 = x sigmoid(at)
      const Vec cube = Simd::Multiply(Simd::Multiply(x, x), x);
      at = Simd::MultiplyAdd(cube, Simd::Set(0.044715f), x);
      at = Simd::Multiply(at, Simd::Set(1.5957691216057308f));  // 2 sqrt(2 / pi)
    }
    const Vec zero = Simd::Zero(), one = Simd::Set(1.0f);
    const Vec size = Simd::Max(at, Simd::Subtract(zero, at));
    const Vec shrunk = Exp<Simd>(Simd::Subtract(zero, size));
    const Vec above = Simd::ZeroBelow(at, zero, one);
    const Vec below = Simd::Subtract(shrunk, Simd::ZeroBelow(at, zero, shrunk));
    return Simd::Multiply(x, Simd::Divide(Simd::Add(above, below), Simd::Add(one, shrunk)));
  }

  template <int kRows>
  static void Dispatch(int64_t rows, const Block& block) {
    if (rows == kRows) {
      for (int64_t column = 0; column < kPanelColumns; column += 2 * kLanes) {
        Tile<kRows>(block, column);
      }
    } else if constexpr (kRows > 1) {
      Dispatch<kRows - 1>(rows, block);
    }
  }

  template <int kRows>
  static void Tile(const Block& block, int64_t column) {
    Vec sums[kRows][2];
    float* const into = block.sums + column;
#pragma GCC unroll 14
    for (int row = 0; row < kRows; ++row) {
      for (int v = 0; v < 2; ++v) {
        sums[row][v] = block.first ? Simd::Zero()
                                   : Simd::Load(into + row * kPanelColumns + v * kLanes);
      }
    }
    const float* x = block.tile;
    const std::byte* weights = block.panel + column * 4;
    const std::byte* ahead = block.ahead;
    for (int64_t step = 0; step < block.steps; ++step) {
      __builtin_prefetch(ahead, 0, 2);
      const auto left = Steps::Load(weights), right = Steps::Load(weights + kLanes * 4);
#pragma GCC unroll 14
      for (int row = 0; row < kRows; ++row) {
        sums[row][0] = Steps::Add(sums[row][0], x[row], left);
        sums[row][1] = Steps::Add(sums[row][1], x[row], right);
      }
      x += kRows;
      weights += kPanelStepBytes;
      ahead += block.ahead_bytes;
    }
#pragma GCC unroll 14
    for (int row = 0; row < kRows; ++row) {
      for (int v = 0; v < 2; ++v) {
        Simd::Store(into + row * kPanelColumns + v * kLanes, sums[row][v]);
      }
    }
  }
};

template <class Simd, class Steps, int kRowsMost>
constexpr LinearKernel kLinearKernel = {
    Simd::kLanes, kRowsMost, LinearArithmetic<Simd, Steps, kRowsMost>::Prepare,
    LinearArithmetic<Simd, Steps, kRowsMost>::Multiply,
    LinearArithmetic<Simd, Steps, kRowsMost>::End};

template <class Simd, int kRowsMost>
const LinearKernel* LinearKernelOf(LinearType type) {
  return type == LinearType::kFloat32 ? &kLinearKernel<Simd, Float32Steps<Simd>, kRowsMost>
                                      : &kLinearKernel<Simd, Bfloat16Steps<Simd>, kRowsMost>;
}

}  // namespace
}  // namespace aqua
#endif  // AQUA_LINEAR_KERNEL_IMPL_H_
