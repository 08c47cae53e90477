// Sixteen floats: AVX-512 F. Names as in portable.h.
#ifndef AQUA_SIMD_AVX512_H_
#define AQUA_SIMD_AVX512_H_

// GCC 12's own header trips its warnings at every intrinsic (gcc.gnu.org/PR105593, fixed in 13).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstdint>

namespace aqua {
namespace {

struct Avx512 {
  using Vec = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kQueries = 4;
  static constexpr int kVectors = 4;

  static Vec Zero() { return _mm512_setzero_ps(); }
  static Vec Set(float x) { return _mm512_set1_ps(x); }
  static Vec Load(const float* from) { return _mm512_loadu_ps(from); }
  static Vec Load(const uint16_t* bfloat16) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bfloat16));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static Vec LowHalves(Vec pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16));
  }
  static Vec HighHalves(Vec pairs) {
    const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), mask));
  }
  static void Store(float* into, Vec x) { _mm512_storeu_ps(into, x); }
  static Vec MultiplyAdd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec Subtract(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec Multiply(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec Divide(Vec a, Vec b) { return _mm512_div_ps(a, b); }
  static Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  static Vec CopySign(Vec size, Vec x) {
    return _mm512_or_ps(size, _mm512_and_ps(Set(-0.0f), x));
  }
  static float MaxLanes(Vec x) { return _mm512_reduce_max_ps(x); }
  static float SumLanes(Vec x) { return _mm512_reduce_add_ps(x); }
  static void SumLanes4(Vec a, Vec b, Vec c, Vec d, float* into) {
    const Vec ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const Vec cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const Vec sums = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(1, 0, 1, 0)),
                                   _mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 2, 3, 2)));
    const __m256 low = _mm512_castps512_ps256(sums);
    const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sums), 1));
    const __m256 half = _mm256_add_ps(low, high);
    _mm_storeu_ps(into, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
  static Vec Round(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT); }
  static Vec Scale(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }
  static Vec ZeroBelow(Vec x, Vec limit, Vec y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), y);
  }
};

}  // namespace
}  // namespace aqua
#endif  // AQUA_SIMD_AVX512_H_
