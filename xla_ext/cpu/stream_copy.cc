#include "cpu/stream_copy.h"

#include <cstring>

// Sanitizers see what memcpy does, not what these stores do.
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define AQUA_STREAMS 1
#include <emmintrin.h>
#endif

namespace aqua {

#ifdef AQUA_STREAMS

namespace {

constexpr int64_t kLineBytes = 64;
// Below, the caches hold it all, and what was copied may be read at once.
constexpr int64_t kStreamBytesMin = int64_t{1} << 14;

void CopyLine(std::byte* target, const std::byte* source) {
  __m128i* const into = reinterpret_cast<__m128i*>(target);
  const __m128i* const from = reinterpret_cast<const __m128i*>(source);
  const __m128i a = _mm_loadu_si128(from), b = _mm_loadu_si128(from + 1);
  const __m128i c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
  _mm_stream_si128(into, a);
  _mm_stream_si128(into + 1, b);
  _mm_stream_si128(into + 2, c);
  _mm_stream_si128(into + 3, d);
}

}  // namespace

void StreamCopy(std::byte* target, const std::byte* source, int64_t bytes) {
  if (bytes < kStreamBytesMin) {
    std::memcpy(target, source, static_cast<size_t>(bytes));
    return;
  }
  const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(target) % kLineBytes);
  const int64_t head = past == 0 ? 0 : kLineBytes - past;
  std::memcpy(target, source, static_cast<size_t>(head));
  int64_t at = head;
  for (; at + kLineBytes <= bytes; at += kLineBytes) CopyLine(target + at, source + at);
  _mm_sfence();  // these stores are ordered by nothing else, locks included
  std::memcpy(target + at, source + at, static_cast<size_t>(bytes - at));
}

#else

void StreamCopy(std::byte* target, const std::byte* source, int64_t bytes) {
  std::memcpy(target, source, static_cast<size_t>(bytes));
}

#endif

}  // namespace aqua
