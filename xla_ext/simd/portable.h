// Four floats as a vector extension of GCC and Clang: SSE2, NEON or whatever there is.
//
// Knows: nothing of attention. All three headers of this kind have the same names.
#ifndef AQUA_SIMD_PORTABLE_H_
#define AQUA_SIMD_PORTABLE_H_

#include <cstdint>
#include <cstring>

namespace aqua {
namespace {

struct Portable {
  typedef float Vec __attribute__((vector_size(16)));
  typedef int32_t Ints __attribute__((vector_size(16)));
  static constexpr int kLanes = 4;
  static constexpr int kQueries = 2;  // that share loads, as many as registers hold
  static constexpr int kVectors = 2;  // of values, beside them

  static Vec Zero() { return Vec{}; }
  static Vec Set(float x) { return Vec{x, x, x, x}; }
  static Vec Load(const float* from) {
    Vec x;
    std::memcpy(&x, from, sizeof(x));
    return x;
  }
  static Vec Load(const uint16_t* bfloat16) {
    Ints bits;
    for (int i = 0; i < kLanes; ++i) bits[i] = static_cast<int32_t>(uint32_t{bfloat16[i]} << 16);
    return reinterpret_cast<Vec>(bits);
  }
  // Of pairs of bfloat16 in 32 bits, the first as floats, and the second.
  static Vec LowHalves(Vec pairs) {
    return reinterpret_cast<Vec>(reinterpret_cast<Ints>(pairs) << 16);
  }
  static Vec HighHalves(Vec pairs) {
    const int32_t mask = static_cast<int32_t>(0xffff0000u);
    return reinterpret_cast<Vec>(reinterpret_cast<Ints>(pairs) & Ints{mask, mask, mask, mask});
  }
  static void Store(float* into, Vec x) { std::memcpy(into, &x, sizeof(x)); }
  static Vec MultiplyAdd(Vec a, Vec b, Vec c) { return a * b + c; }
  static Vec Add(Vec a, Vec b) { return a + b; }
  static Vec Subtract(Vec a, Vec b) { return a - b; }
  static Vec Multiply(Vec a, Vec b) { return a * b; }
  static Vec Divide(Vec a, Vec b) { return a / b; }
  static Vec Max(Vec a, Vec b) { return a > b ? a : b; }  // b where one of them is NaN
  // `size`, at least 0, with the sign of x.
  static Vec CopySign(Vec size, Vec x) {
    const Ints sign = reinterpret_cast<Ints>(Set(-0.0f));
    return reinterpret_cast<Vec>(reinterpret_cast<Ints>(size) |
                                 (reinterpret_cast<Ints>(x) & sign));
  }
  static float MaxLanes(Vec x) {
    const float low = x[0] > x[1] ? x[0] : x[1], high = x[2] > x[3] ? x[2] : x[3];
    return low > high ? low : high;
  }
  static float SumLanes(Vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }
  // The sums of four vectors, side by side.
  static void SumLanes4(Vec a, Vec b, Vec c, Vec d, float* into) {
    into[0] = SumLanes(a);
    into[1] = SumLanes(b);
    into[2] = SumLanes(c);
    into[3] = SumLanes(d);
  }
  // To the nearest whole number, for |x| < 2^22: what is below the last bit falls off.
  static Vec Round(Vec x) {
    const Vec big = Set(12582912.0f);  // 1.5 * 2^23
    return (x + big) - big;
  }
  // x * 2^n for x in [0.5, 2] and whole n in [-125, 1].
  static Vec Scale(Vec x, Vec n) {
    const Ints shifted = __builtin_convertvector(n, Ints) << 23;
    return reinterpret_cast<Vec>(reinterpret_cast<Ints>(x) + shifted);
  }
  // y where x is at least `limit` or NaN, else 0.
  static Vec ZeroBelow(Vec x, Vec limit, Vec y) { return x < limit ? Zero() : y; }
};

}  // namespace
}  // namespace aqua
#endif  // AQUA_SIMD_PORTABLE_H_
