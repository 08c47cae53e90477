// Paged attention on a GPU: the operands that kernels take, how work is cut, the launch.
//
// Letters and page table entries as in attention/attention.h. All pointers but those in ArenaBases
// are to memory of the device that runs the kernels.
#ifndef AQUA_CUDA_ATTENTION_H_
#define AQUA_CUDA_ATTENTION_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "core/store.h"

namespace aqua {

constexpr int kEntryBits = 24;  // of a page; above them is the store slot

constexpr int kQueriesMax = 8;  // of one block
constexpr int kSegmentTokensMin = 128;
constexpr int kSegmentsMax = 64;  // of one row, and one more where a window begins in the middle
constexpr int kHeadUnit = 8, kHeadMax = 256;

// Arenas by store slot, on any device whose memory this one may access, or in host memory.
struct ArenaBases {
  const std::byte* base[kSlotsMax];
  int32_t pages[kSlotsMax];  // 0: no arena
};

struct AttentionOperands {
  std::byte* pool;           // [pages, layers, 2, page_tokens, kv_heads, head_dim]
  const int32_t* layer;      // [2]: its number, its window
  const int32_t* tables;     // [rows, table_pages]
  const int32_t* positions;  // [rows]
  const std::byte* queries;  // [rows, kv_heads, group, head_dim]
  const std::byte* keys;     // [rows, kv_heads, head_dim]
  const std::byte* values;   // as keys
  std::byte* attended;       // as queries
  float* partials;           // PartialFloats(operands) of scratch: decode

  int rows, table_pages, pages, layers, page_tokens, kv_heads, group, head_dim;
  int window_most;    // of any layer; 0: one of them attends to all
  float query_scale;  // of queries, so that scores are what CappedScore takes
  float softcap;      // times log2(e), as scores are: weights are powers of 2; 0: none

  // From here on as Cut has it.
  int64_t page_bytes, side_bytes, token_bytes;  // of a page, of a layer's keys in it, of a token's
  int page_shift;                               // log2(page_tokens), -1: not a power of 2
  int tile_rows, heads;                         // of a block's tile
  int segment_tokens, segments_max;
};

// How blocks share the work. Segments follow from the table's width, which prefill and decode of
// one pool have in common, and from nothing that changes from call to call.
inline void Cut(AttentionOperands* given, int element_bytes, bool is_prefill) {
  given->token_bytes = int64_t{given->kv_heads} * given->head_dim * element_bytes;
  given->side_bytes = given->page_tokens * given->token_bytes;
  given->page_bytes = given->layers * 2 * given->side_bytes;
  given->page_shift = -1;
  for (int shift = 0; shift < 31; ++shift) {
    if (given->page_tokens == 1 << shift) given->page_shift = shift;
  }
  const int head_tiles = (given->group + kQueriesMax - 1) / kQueriesMax;
  given->heads = (given->group + head_tiles - 1) / head_tiles;
  given->tile_rows = is_prefill ? kQueriesMax / given->heads : 1;
  const int64_t tokens = int64_t{given->table_pages} * given->page_tokens;
  int64_t segment = kSegmentTokensMin;
  while (segment * kSegmentsMax < tokens) segment *= 2;
  given->segment_tokens = static_cast<int>(segment);
  const int64_t most = given->window_most;
  const int64_t seen = most > 0 && most < tokens ? most : tokens;
  const int64_t whole = (tokens + segment - 1) / segment, cut = (seen + segment - 2) / segment + 1;
  given->segments_max = static_cast<int>(cut < whole ? cut : whole);
}

// The states of decode's segments, each a weighted sum, a maximum and a sum. 0 where no row has
// more than one segment.
inline int64_t PartialFloats(const AttentionOperands& given) {
  if (given.segments_max == 1) return 0;
  return int64_t{given.rows} * given.kv_heads * given.group * given.segments_max *
         (given.head_dim + 2);
}

// Loads every kernel onto the current device. CUDA does it at the first launch otherwise, and may
// wait for the device then, which may be waiting for us (flags.h).
cudaError_t LoadAttention();

// Writes the rows' keys and values, then attends. The operands are as Cut left them.
cudaError_t LaunchAttention(const AttentionOperands& given, const ArenaBases& arenas,
                            bool is_bfloat16, bool is_prefill, cudaStream_t stream);

}  // namespace aqua
#endif  // AQUA_CUDA_ATTENTION_H_
