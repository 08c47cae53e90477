// The kernel of linear layers for AVX-512 with products of bfloat16 pairs (kernel.cc).
#include "linear/kernel_impl.h"
#include "simd/avx512.h"

namespace aqua {
namespace {

// One instruction a step. It takes denormals for zeros.
struct PairSteps {
  using Element = uint16_t;
  using Vec = __m512;
  struct Weights {
    __m512bh pairs;
  };
  static Weights Load(const std::byte* from) {
    return {reinterpret_cast<__m512bh>(_mm512_loadu_si512(from))};
  }
  static Vec Add(Vec sum, float x, const Weights& weights) {
    const auto pair = reinterpret_cast<__m512bh>(_mm512_set1_ps(x));
    return _mm512_dpbf16_ps(sum, pair, weights.pairs);
  }
};

}  // namespace

const LinearKernel* Avx512Bfloat16LinearKernel() {
  return &kLinearKernel<Avx512, PairSteps, 14>;
}

}  // namespace aqua
