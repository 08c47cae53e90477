// Paged attention on a GPU: elements, the positions that a row sees, where pages lie; and the two
// kernels around the one in attention_kernel.cuh: keys and values written before it, the segments
// of decode folded after it.
#ifndef AQUA_CUDA_ATTENTION_PARTS_CUH_
#define AQUA_CUDA_ATTENTION_PARTS_CUH_

#include <cstddef>
#include <cstdint>

#include "cuda/attention.h"

namespace aqua {

constexpr int kBlockThreads = 128;
constexpr int kWarpThreads = 32;
constexpr int kWarps = kBlockThreads / kWarpThreads;
constexpr int kTokensAtOnce = 4;  // loads of a thread under way: twice as many of 16 bytes
constexpr unsigned kWholeWarp = 0xffffffffu;
constexpr float kNothing = -INFINITY;  // the maximum over no token

struct alignas(16) Vector {
  uint32_t words[4];
};

// Elements of 16 bytes as floats.
struct Float32 {
  using Stored = float;
  static constexpr int kInVector = 4;
  __device__ static void Unpack(const Vector& vector, float* into) {
    for (int i = 0; i < 4; ++i) into[i] = __uint_as_float(vector.words[i]);
  }
  __device__ static Stored Round(float value) { return value; }
};

struct Bfloat16 {
  using Stored = uint16_t;
  static constexpr int kInVector = 8;
  __device__ static void Unpack(const Vector& vector, float* into) {
    for (int i = 0; i < 4; ++i) {
      into[2 * i] = __uint_as_float(vector.words[i] << 16);
      into[2 * i + 1] = __uint_as_float(vector.words[i] & 0xffff0000u);
    }
  }
  __device__ static Stored Round(float value) {  // to nearest, ties to even
    const uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
    return static_cast<Stored>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
};

// The positions that a row attends to, `first` to `last`; none for a row that must not run.
struct Span {
  int first, last;
  __device__ bool has(int token) const { return token >= first && token <= last; }
};

// What fades when the maximum rises from `from` to `to`.
__device__ inline float Fade(float from, float to) {
  return from == kNothing ? 0.0f : exp2f(__fsub_rn(from, to));
}

// softcap * tanh(score), by e^(-2|score|), which overflows nowhere; without a softcap the score.
__device__ inline float CappedScore(const AttentionOperands& given, float score) {
  if (given.softcap == 0) return score;
  constexpr float kTwice = -2.8853900817779268f;  // -2 log2(e)
  const float shrunk = exp2f(__fmul_rn(kTwice, fabsf(score)));
  const float share = __fdiv_rn(__fsub_rn(1.0f, shrunk), __fadd_rn(1.0f, shrunk));
  return copysignf(__fmul_rn(share, given.softcap), score);
}

// total * keep + part * take
__device__ inline float Blend(float total, float keep, float part, float take) {
  return __fmaf_rn(total, keep, __fmul_rn(part, take));
}

__device__ inline int PageOrdinal(const AttentionOperands& given, int token) {
  return given.page_shift >= 0 ? token >> given.page_shift : token / given.page_tokens;
}

// A row whose position has no place in its table, or whose own page is not in the pool, attends to
// nothing, and so does every row where there is no such layer or its window is none of the model's:
// the result is NaN. The host cannot see these operands before they are used.
__device__ inline Span SpanOf(const AttentionOperands& given, int row) {
  const int layer = given.layer[0], window = given.layer[1], position = given.positions[row];
  if (layer < 0 || layer >= given.layers || window < 0) return {1, 0};
  if (given.window_most > 0 && (window == 0 || window > given.window_most)) return {1, 0};
  if (position < 0 || position >= given.table_pages * given.page_tokens) return {1, 0};
  const int64_t own =
      given.tables[static_cast<int64_t>(row) * given.table_pages + PageOrdinal(given, position)];
  if (own < 0 || own >= given.pages) return {1, 0};
  const bool is_cut = window > 0 && position >= window;
  return {is_cut ? position - window + 1 : 0, position};
}

// Where a page of this shard lies; null for an entry that names none.
__device__ inline const std::byte* PageAddress(const AttentionOperands& given,
                                               const ArenaBases& arenas, int32_t entry) {
  if (entry >= 0) return entry < given.pages ? given.pool + entry * given.page_bytes : nullptr;
  const int slot = ~entry >> kEntryBits;
  const int64_t page = ~entry & ((1 << kEntryBits) - 1);
  return page < arenas.pages[slot] ? arenas.base[slot] + page * given.page_bytes : nullptr;
}

// Puts every row's key and value into its page. A block a row.
__device__ inline void WriteRow(const AttentionOperands& given) {
  const int row = static_cast<int>(blockIdx.x);
  const Span span = SpanOf(given, row);
  if (span.last < span.first) return;
  const int position = span.last;
  const int ordinal = PageOrdinal(given, position);
  const int64_t page = given.tables[static_cast<int64_t>(row) * given.table_pages + ordinal];
  const int64_t in_page = given.layer[0] * 2 * given.side_bytes +
                          (position - ordinal * given.page_tokens) * given.token_bytes;
  std::byte* const into = given.pool + page * given.page_bytes + in_page;
  const int64_t from = row * given.token_bytes;
  for (int64_t at = 16 * threadIdx.x; at < given.token_bytes; at += 16 * kBlockThreads) {
    const auto copy = [at](std::byte* target, const std::byte* source) {
      *reinterpret_cast<Vector*>(target + at) = *reinterpret_cast<const Vector*>(source + at);
    };
    copy(into, given.keys + from);
    copy(into + given.side_bytes, given.values + from);
  }
}

// Decode's second kernel: folds the segments of a row that has several. A block a query.
template <typename Element>
__device__ inline void MergeQuery(const AttentionOperands& given) {
  const int row = static_cast<int>(blockIdx.x);
  const Span span = SpanOf(given, row);
  const int segments =
      span.last / given.segment_tokens - span.first / given.segment_tokens + 1;
  if (span.last < span.first || segments == 1) return;
  const int64_t query = static_cast<int64_t>(row) * given.kv_heads * given.group + blockIdx.y;
  const int stride = given.head_dim + 2;
  const float* const partials = given.partials + query * given.segments_max * stride;
  auto* const attended = reinterpret_cast<typename Element::Stored*>(given.attended);
  for (int d = threadIdx.x; d < given.head_dim; d += kBlockThreads) {
    float maximum = kNothing, sum = 0, weighted = 0;
    for (int segment = 0; segment < segments; ++segment) {
      const float* const part = partials + segment * stride;
      const float part_maximum = part[given.head_dim];
      if (part_maximum == kNothing) continue;
      const float top = fmaxf(maximum, part_maximum);
      const float keep = Fade(maximum, top), take = Fade(part_maximum, top);
      maximum = top;
      sum = Blend(sum, keep, part[given.head_dim + 1], take);
      weighted = Blend(weighted, keep, part[d], take);
    }
    attended[query * given.head_dim + d] = Element::Round(__fdiv_rn(weighted, sum));
  }
}

}  // namespace aqua
#endif  // AQUA_CUDA_ATTENTION_PARTS_CUH_
