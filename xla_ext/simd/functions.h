// Functions of vectors and elements that kernels share, each for any of the simd headers.
//
// In an unnamed namespace, and calls no library function that is inline: the linker would keep one
// copy of it, perhaps the one that only newer machines can run.
#ifndef AQUA_SIMD_FUNCTIONS_H_
#define AQUA_SIMD_FUNCTIONS_H_

#include <cstdint>

namespace aqua {
namespace {

inline void Put(float* into, float x) { *into = x; }
// To the nearest, ties to even; a NaN stays one.
inline void Put(uint16_t* bfloat16, float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  *bfloat16 = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40u
                                        : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// e^x for x <= 0, within 2 ulp; 0 below -86; NaN of NaN. By Cody and Waite: x = n ln 2 + r with
// |r| <= ln(2) / 2, where the series up to r^7 / 7! is within 1e-8.
constexpr float kExpTerms[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};

template <class Simd>
typename Simd::Vec Exp(typename Simd::Vec x) {
  using Vec = typename Simd::Vec;
  const Vec lowest = Simd::Set(-86.0f);
  const Vec clamped = Simd::Max(lowest, x);
  const Vec n = Simd::Round(Simd::Multiply(clamped, Simd::Set(1.44269504f)));
  // ln 2 in two parts, the first of so few bits that n times it is exact.
  Vec r = Simd::MultiplyAdd(n, Simd::Set(-0.693359375f), clamped);
  r = Simd::MultiplyAdd(n, Simd::Set(2.12194440e-4f), r);
  Vec y = Simd::Set(1.0f / 5040);
#pragma GCC unroll 7
  for (const float term : kExpTerms) y = Simd::MultiplyAdd(y, r, Simd::Set(term));
  return Simd::ZeroBelow(x, lowest, Simd::Scale(y, n));
}

// softcap * tanh(x), within 1e-7 of softcap: by e^(-2|x|), which overflows nowhere.
template <class Simd>
typename Simd::Vec Cap(typename Simd::Vec x, float softcap) {
  using Vec = typename Simd::Vec;
  const Vec size = Simd::Max(x, Simd::Subtract(Simd::Zero(), x));
  const Vec shrunk = Exp<Simd>(Simd::Multiply(size, Simd::Set(-2.0f)));
  const Vec one = Simd::Set(1.0f);
  const Vec share = Simd::Divide(Simd::Subtract(one, shrunk), Simd::Add(one, shrunk));
  return Simd::CopySign(Simd::Multiply(share, Simd::Set(softcap)), x);
}

template <class Simd>
float ExpOf(float x) {
  float lanes[Simd::kLanes];
  Simd::Store(lanes, Exp<Simd>(Simd::Set(x)));
  return lanes[0];
}

}  // namespace
}  // namespace aqua
#endif  // AQUA_SIMD_FUNCTIONS_H_
