// Paged attention on a GPU: what the threads of a block do.
//
// Knows: threads, shared memory, the operands (attention.h). Does not know: XLA, streams, launches.
// tests/emulated.h compiles this file for the host and runs it there, thread by thread.
//
// A block computes a tile: `heads` query heads of one KV head for `tile_rows` neighbouring rows,
// at most kQueries queries; it reads each key and value once for all of them. Tokens are dealt to
// groups of kLanes neighbouring threads, each of which holds kVectors times 16 bytes of a key and
// of a value. Positions are cut into segments of `segment_tokens`, counted from position 0:
//
//     group: online softmax over its tokens of the segment  (arXiv 1805.02867)
//     block: groups of a warp by halves, then warps in order -> the segment's state
//     row:   segments in order, here (prefill) or in MergeSegments (decode)
//
// Which token goes where follows from its position alone, and every operation is written as the
// instruction it is to be, so that no compiler contracts one kernel otherwise than another. So a
// row's bits follow from its own position, table, window and the sizes: batch mates, tiles, and
// whether it is computed by prefill or by decode, change none.
#ifndef AQUA_CUDA_ATTENTION_KERNEL_CUH_
#define AQUA_CUDA_ATTENTION_KERNEL_CUH_

#include <cstddef>
#include <cstdint>

#include "cuda/attention.h"
#include "cuda/attention_parts.cuh"

namespace aqua {

// Floats of shared memory that a block takes.
__host__ __device__ constexpr int SharedFloats(int queries, int head_dim) {
  return queries * ((kWarps + 1) * head_dim + 3 * kWarps + 4);
}

// The tile of a block. Of the queries, number q is of row q / heads and head q % heads.
template <typename Element, int kLanes, int kVectors, int kQueries>
class AttentionTile {
 public:
  static constexpr int kInVector = Element::kInVector;
  static constexpr int kFloats = kVectors * kInVector;  // of a key or value that a thread holds
  static constexpr int kGroups = kBlockThreads / kLanes;
  static constexpr int kStride = kGroups * kTokensAtOnce;  // tokens that the block takes at once

  __device__ __forceinline__ AttentionTile(const AttentionOperands& given, const ArenaBases& arenas,
                           float* shared)
      : given_(given), arenas_(arenas), group_(threadIdx.x / kLanes), lane_(threadIdx.x % kLanes),
        to_layer_(given.layer[0] * 2 * given.side_bytes) {
    const int head_tiles = (given.group + given.heads - 1) / given.heads;
    row_ = static_cast<int>(blockIdx.x) * given.tile_rows;
    rows_ = min(given.tile_rows, given.rows - row_);
    kv_head_ = static_cast<int>(blockIdx.y) / head_tiles;
    head_ = static_cast<int>(blockIdx.y) % head_tiles * given.heads;
    heads_ = min(given.heads, given.group - head_);
    warp_weighted_ = shared;
    weighted_ = warp_weighted_ + kWarps * kQueries * given.head_dim;
    warp_maximum_ = weighted_ + kQueries * given.head_dim;
    warp_sum_ = warp_maximum_ + kWarps * kQueries;
    warp_fade_ = warp_sum_ + kWarps * kQueries;
    maximum_ = warp_fade_ + kWarps * kQueries;
    sum_ = maximum_ + kQueries;
    keep_ = sum_ + kQueries;
    take_ = keep_ + kQueries;
  }

  // Prefill: all segments of all rows. Rows with tables of their own go one after another.
  __device__ __forceinline__ void RunAll() {
    const bool is_shared = RowsShareTable();
    for (int pass = 0; pass < (is_shared ? 1 : rows_); ++pass) {
      const Span all = Take(is_shared ? 0 : pass, is_shared ? rows_ : pass + 1);
      Clear();
      if (all.last >= all.first) {
        const int tokens = given_.segment_tokens;
        for (int segment = all.first / tokens; segment <= all.last / tokens; ++segment) {
          Visit(segment, all);
          FoldSegment();
        }
      }
      WriteAttended();
    }
  }

  // Decode: one segment of one row, number blockIdx.z of those it attends to. A row with a single
  // one is done here.
  __device__ __forceinline__ void RunSegment() {
    const Span span = SpanOf(given_, row_);
    const int tokens = given_.segment_tokens;
    const int first = span.first / tokens, last = span.last / tokens;
    const int segment = first + static_cast<int>(blockIdx.z);
    const bool has_none = span.last < span.first;
    if (has_none ? blockIdx.z > 0 : segment > last) return;
    Take(0, 1);
    Clear();
    if (!has_none) {
      Visit(segment, span);
      if (first < last) {
        WritePartial();
        return;
      }
      FoldSegment();
    }
    WriteAttended();
  }

 private:
  __device__ __forceinline__ const int32_t* Table(int row) const {
    return given_.tables + static_cast<int64_t>(row) * given_.table_pages;
  }

  __device__ __forceinline__ bool RowsShareTable() const {
    int differs = 0;
    for (int row = 1; row < rows_; ++row) {
      const Span span = SpanOf(given_, row_ + row);
      if (span.last < span.first) continue;
      const int end = PageOrdinal(given_, span.last) + 1;
      int page = PageOrdinal(given_, span.first) + static_cast<int>(threadIdx.x);
      for (; page < end; page += kBlockThreads) {
        differs |= Table(row_ + row)[page] != Table(row_)[page];
      }
    }
    return !__syncthreads_or(differs);
  }

  // Makes rows `begin` to `end - 1` of the tile those of this pass; the positions they see.
  __device__ __forceinline__ Span Take(int begin, int end) {
    Span all = {INT32_MAX, -1};
    table_ = Table(row_ + begin);
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      const int row = q / given_.heads, head = q % given_.heads;
      const bool is_taken = row >= begin && row < end && head < heads_;
      spans_[q] = is_taken ? SpanOf(given_, row_ + row) : Span{1, 0};
      is_taken_[q] = is_taken;
      LoadQuery(q, is_taken ? row_ + row : row_, is_taken ? head : 0);
      if (spans_[q].last < spans_[q].first) continue;
      all = {min(all.first, spans_[q].first), max(all.last, spans_[q].last)};
    }
    return all.last < 0 ? Span{1, 0} : all;
  }

  // Elements of this thread's vector `v` begin here; past the end for threads without work.
  __device__ __forceinline__ int Element0(int v) const { return (v * kLanes + lane_) * kInVector; }

  __device__ __forceinline__ void LoadQuery(int q, int row, int head) {
    const int64_t index =
        ((static_cast<int64_t>(row) * given_.kv_heads + kv_head_) * given_.group + head_ + head) *
        given_.head_dim;
    const auto* const query = reinterpret_cast<const typename Element::Stored*>(given_.queries);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      Vector vector = {};
      if (Element0(v) < given_.head_dim) {
        vector = *reinterpret_cast<const Vector*>(query + index + Element0(v));
      }
      float* const into = query_[q] + v * kInVector;
      Element::Unpack(vector, into);
      for (int i = 0; i < kInVector; ++i) into[i] = __fmul_rn(into[i], given_.query_scale);
    }
  }

  // Nothing attended to yet.
  __device__ __forceinline__ void Clear() {
    __syncthreads();  // what was there has been read
    for (int i = threadIdx.x; i < kQueries * given_.head_dim; i += kBlockThreads) weighted_[i] = 0;
    if (threadIdx.x < kQueries) {
      maximum_[threadIdx.x] = kNothing;
      sum_[threadIdx.x] = 0;
    }
    __syncthreads();
  }

  // The states of the warps over one segment, in shared memory.
  __device__ __forceinline__ void Visit(int segment, const Span& all) {
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      thread_maximum_[q] = kNothing;
      thread_sum_[q] = 0;
#pragma unroll
      for (int i = 0; i < kFloats; ++i) thread_weighted_[q][i] = 0;
    }
    const int begin = segment * given_.segment_tokens;
    const Span span = {max(all.first, begin), min(all.last, begin + given_.segment_tokens - 1)};
    for (int token = begin; token <= span.last; token += kStride) {
      if (token + kStride > span.first) VisitTokens(token + group_, span);
    }
    MergeGroups();
    StoreWarp();
  }

  // Tokens `first`, `first + kGroups` and so on, kTokensAtOnce of them.
  __device__ __forceinline__ void VisitTokens(int first, const Span& span) {
    Vector keys[kTokensAtOnce][kVectors], values[kTokensAtOnce][kVectors];
    bool is_lost[kTokensAtOnce];
#pragma unroll
    for (int t = 0; t < kTokensAtOnce; ++t) {
      is_lost[t] = !LoadToken(first + t * kGroups, span, keys[t], values[t]);
    }
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      float scores[kTokensAtOnce];
#pragma unroll
      for (int t = 0; t < kTokensAtOnce; ++t) {
        // An infinite score makes the row's sum NaN, and is no maximum over nothing.
        const float sum = GroupSum(is_lost[t] ? INFINITY : Dot(query_[q], keys[t]));
        scores[t] = is_lost[t] ? sum : CappedScore(given_, sum);
      }
      AddTokens(q, first, scores, values);
    }
  }

  // False: a row sees the token, and its page is nowhere.
  __device__ __forceinline__ bool LoadToken(int token, const Span& span, Vector* key,
                                            Vector* value) const {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) key[v] = value[v] = Vector{};
    if (!span.has(token)) return true;
    const int ordinal = PageOrdinal(given_, token);
    const std::byte* const page = PageAddress(given_, arenas_, table_[ordinal]);
    if (page == nullptr) return false;
    const int64_t in_page = to_layer_ + (token - ordinal * given_.page_tokens) * given_.token_bytes;
    const auto* const elements =
        reinterpret_cast<const typename Element::Stored*>(page + in_page) +
        static_cast<int64_t>(kv_head_) * given_.head_dim;
    const int64_t to_values = given_.side_bytes / sizeof(typename Element::Stored);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (Element0(v) >= given_.head_dim) continue;
      key[v] = *reinterpret_cast<const Vector*>(elements + Element0(v));
      value[v] = *reinterpret_cast<const Vector*>(elements + to_values + Element0(v));
    }
    return true;
  }

  __device__ __forceinline__ float Dot(const float* query, const Vector* key) const {
    float sum = 0;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      float elements[kInVector];
      Element::Unpack(key[v], elements);
#pragma unroll
      for (int i = 0; i < kInVector; ++i) {
        sum = __fmaf_rn(query[v * kInVector + i], elements[i], sum);
      }
    }
    return sum;
  }

  __device__ __forceinline__ float GroupSum(float value) const {
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      value = __fadd_rn(value, __shfl_xor_sync(kWholeWarp, value, offset));
    }
    return value;
  }

  // A token that query q does not see has no part in it, whatever its value holds.
  __device__ __forceinline__ void AddTokens(int q, int first, const float* scores,
                            const Vector (*values)[kVectors]) {
    float risen = thread_maximum_[q];
#pragma unroll
    for (int t = 0; t < kTokensAtOnce; ++t) {
      if (spans_[q].has(first + t * kGroups)) risen = fmaxf(risen, scores[t]);
    }
    const float fade = Fade(thread_maximum_[q], risen);
    thread_maximum_[q] = risen;
    thread_sum_[q] = __fmul_rn(thread_sum_[q], fade);
#pragma unroll
    for (int i = 0; i < kFloats; ++i) {
      thread_weighted_[q][i] = __fmul_rn(thread_weighted_[q][i], fade);
    }
#pragma unroll
    for (int t = 0; t < kTokensAtOnce; ++t) {
      if (!spans_[q].has(first + t * kGroups)) continue;
      const float weight = exp2f(__fsub_rn(scores[t], risen));
      thread_sum_[q] = __fadd_rn(thread_sum_[q], weight);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        float elements[kInVector];
        Element::Unpack(values[t][v], elements);
#pragma unroll
        for (int i = 0; i < kInVector; ++i) {
          float& weighted = thread_weighted_[q][v * kInVector + i];
          weighted = __fmaf_rn(weight, elements[i], weighted);
        }
      }
    }
  }

  // The groups of a warp, by halves: the first group ends up with the state of all.
  __device__ __forceinline__ void MergeGroups() {
#pragma unroll
    for (int offset = kLanes; offset < kWarpThreads; offset *= 2) {
#pragma unroll
      for (int q = 0; q < kQueries; ++q) {
        const float other = __shfl_xor_sync(kWholeWarp, thread_maximum_[q], offset);
        const float top = fmaxf(thread_maximum_[q], other);
        const float keep = Fade(thread_maximum_[q], top), take = Fade(other, top);
        thread_maximum_[q] = top;
        thread_sum_[q] =
            Blend(thread_sum_[q], keep, __shfl_xor_sync(kWholeWarp, thread_sum_[q], offset), take);
#pragma unroll
        for (int i = 0; i < kFloats; ++i) {
          const float part = __shfl_xor_sync(kWholeWarp, thread_weighted_[q][i], offset);
          thread_weighted_[q][i] = Blend(thread_weighted_[q][i], keep, part, take);
        }
      }
    }
  }

  // Leaves the warps' states and their fades to the segment's maximum in shared memory, and the
  // segment's own maximum and sum in those of warp 0.
  __device__ __forceinline__ void StoreWarp() {
    const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    if (threadIdx.x % kWarpThreads < kLanes) {
#pragma unroll
      for (int q = 0; q < kQueries; ++q) {
        float* const into = warp_weighted_ + (warp * kQueries + q) * given_.head_dim;
        for (int v = 0; v < kVectors; ++v) {
          if (Element0(v) >= given_.head_dim) continue;
          for (int i = 0; i < kInVector; ++i) {
            into[Element0(v) + i] = thread_weighted_[q][v * kInVector + i];
          }
        }
        if (lane_ == 0) {
          warp_maximum_[warp * kQueries + q] = thread_maximum_[q];
          warp_sum_[warp * kQueries + q] = thread_sum_[q];
        }
      }
    }
    __syncthreads();
    if (threadIdx.x < kQueries) {
      const int q = static_cast<int>(threadIdx.x);
      float top = kNothing, sum = 0;
      for (int w = 0; w < kWarps; ++w) top = fmaxf(top, warp_maximum_[w * kQueries + q]);
      for (int w = 0; w < kWarps; ++w) {
        const float fade = Fade(warp_maximum_[w * kQueries + q], top);
        sum = __fmaf_rn(warp_sum_[w * kQueries + q], fade, sum);
        warp_fade_[w * kQueries + q] = fade;
      }
      warp_maximum_[q] = top;
      warp_sum_[q] = sum;
    }
    __syncthreads();
  }

  // Element d of the segment's weighted sum of query q.
  __device__ __forceinline__ float SegmentWeighted(int q, int d) const {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) {
      const float part = warp_weighted_[(w * kQueries + q) * given_.head_dim + d];
      sum = __fmaf_rn(part, warp_fade_[w * kQueries + q], sum);
    }
    return sum;
  }

  // Takes the segment into the row's state. A segment of which a query sees nothing changes no bit.
  __device__ __forceinline__ void FoldSegment() {
    if (threadIdx.x < kQueries) {
      const int q = static_cast<int>(threadIdx.x);
      const float top = fmaxf(maximum_[q], warp_maximum_[q]);
      keep_[q] = Fade(maximum_[q], top);
      take_[q] = Fade(warp_maximum_[q], top);
      if (warp_maximum_[q] != kNothing) {
        maximum_[q] = top;
        sum_[q] = Blend(sum_[q], keep_[q], warp_sum_[q], take_[q]);
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < kQueries * given_.head_dim; i += kBlockThreads) {
      const int q = i / given_.head_dim;
      if (warp_maximum_[q] == kNothing) continue;
      const float part = SegmentWeighted(q, i - q * given_.head_dim);
      weighted_[i] = Blend(weighted_[i], keep_[q], part, take_[q]);
    }
    __syncthreads();
  }

  __device__ __forceinline__ int64_t QueryIndex(int q) const {
    return (static_cast<int64_t>(row_ + q / given_.heads) * given_.kv_heads + kv_head_) *
               given_.group +
           head_ + q % given_.heads;
  }

  __device__ __forceinline__ void WriteAttended() const {
    auto* const attended = reinterpret_cast<typename Element::Stored*>(given_.attended);
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      if (!is_taken_[q]) continue;
      for (int d = threadIdx.x; d < given_.head_dim; d += kBlockThreads) {
        const float value = __fdiv_rn(weighted_[q * given_.head_dim + d], sum_[q]);
        attended[QueryIndex(q) * given_.head_dim + d] = Element::Round(value);
      }
    }
  }

  __device__ __forceinline__ void WritePartial() const {
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      if (!is_taken_[q]) continue;
      float* const into = given_.partials + (QueryIndex(q) * given_.segments_max + blockIdx.z) *
                                                (given_.head_dim + 2);
      for (int d = threadIdx.x; d < given_.head_dim; d += kBlockThreads) {
        into[d] = SegmentWeighted(q, d);
      }
      if (threadIdx.x == 0) {
        into[given_.head_dim] = warp_maximum_[q];
        into[given_.head_dim + 1] = warp_sum_[q];
      }
    }
  }

  const AttentionOperands& given_;
  const ArenaBases& arenas_;
  const int group_, lane_;  // of this thread
  const int64_t to_layer_;  // bytes from the beginning of a page
  int row_, rows_, kv_head_, head_, heads_;
  const int32_t* table_ = nullptr;
  Span spans_[kQueries];
  bool is_taken_[kQueries];
  float query_[kQueries][kFloats];
  float thread_maximum_[kQueries], thread_sum_[kQueries], thread_weighted_[kQueries][kFloats];
  // Shared.
  float* warp_weighted_;                              // [kWarps, kQueries, head_dim]
  float* weighted_;                                   // [kQueries, head_dim]
  float *warp_maximum_, *warp_sum_, *warp_fade_;      // [kWarps, kQueries]
  float *maximum_, *sum_, *keep_, *take_;             // [kQueries]
};

}  // namespace aqua
#endif  // AQUA_CUDA_ATTENTION_KERNEL_CUH_
