// Eight floats: AVX2 and FMA. Names as in portable.h.
#ifndef AQUA_SIMD_AVX2_H_
#define AQUA_SIMD_AVX2_H_

#include <immintrin.h>

#include <cstdint>

namespace aqua {
namespace {

struct Avx2 {
  using Vec = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kQueries = 2;
  static constexpr int kVectors = 4;

  static Vec Zero() { return _mm256_setzero_ps(); }
  static Vec Set(float x) { return _mm256_set1_ps(x); }
  static Vec Load(const float* from) { return _mm256_loadu_ps(from); }
  static Vec Load(const uint16_t* bfloat16) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bfloat16));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static Vec LowHalves(Vec pairs) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs), 16));
  }
  static Vec HighHalves(Vec pairs) {
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(pairs), mask));
  }
  static void Store(float* into, Vec x) { _mm256_storeu_ps(into, x); }
  static Vec MultiplyAdd(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec Subtract(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static Vec Multiply(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Vec Divide(Vec a, Vec b) { return _mm256_div_ps(a, b); }
  static Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  static Vec CopySign(Vec size, Vec x) {
    return _mm256_or_ps(size, _mm256_and_ps(Set(-0.0f), x));
  }
  static float MaxLanes(Vec x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
  }
  static float SumLanes(Vec x) {
    __m128 half = Halves(x);
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
  }
  static void SumLanes4(Vec a, Vec b, Vec c, Vec d, float* into) {
    const Vec sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(into, Halves(sums));
  }
  static Vec Round(Vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Vec Scale(Vec x, Vec n) {
    const __m256i shifted = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), shifted));
  }
  static Vec ZeroBelow(Vec x, Vec limit, Vec y) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ), y);
  }

 private:
  static __m128 Halves(Vec x) {
    return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  }
};

}  // namespace
}  // namespace aqua
#endif  // AQUA_SIMD_AVX2_H_
