// The arithmetic of attention: one tile of rows that share their pages, segment by segment.
//
// Knows: floats, vector widths. Does not know: XLA, threads, stores, which rows make a tile.
// Everything given was checked.
//
// A row's positions are cut into segments of `SegmentPages` whole pages, counted from position 0,
// and these into blocks. Each segment has a running maximum, sum and weighted sum over its blocks
// in order (arXiv 1805.02867); segments are folded in order. So the arithmetic of a row follows
// from its position, the window and its page size alone: tiles, splits over threads and prefill or
// decode change no bit. The three vector widths differ from one another in the last bits.
#ifndef AQUA_ATTENTION_KERNEL_H_
#define AQUA_ATTENTION_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "attention/attention.h"

namespace aqua {

constexpr int64_t kSegmentTokens = 512;
constexpr int64_t kTileRowsMax = 16;
constexpr int64_t kTileQueriesMax = 64;  // of one head: rows by group
constexpr int64_t kHeadDimUnit = 8, kHeadDimMax = 256;
constexpr int64_t kGroupMax = kTileQueriesMax;

enum class ElementType { kFloat32, kBfloat16 };

static inline int64_t SegmentTokens(const AttentionShape& shape) {
  const int64_t pages = kSegmentTokens / shape.page_tokens;
  return (pages > 1 ? pages : 1) * shape.page_tokens;
}

// Some KV heads of neighbouring rows that have the same page table.
struct Tile {
  const AttentionShape* shape;
  const PageBases* bases;
  int64_t layer;
  const int32_t* table;      // [table_pages]
  const int32_t* positions;  // [rows]
  int64_t rows;              // 1 to kTileRowsMax, by group at most kTileQueriesMax
  int64_t head_begin, head_end;
  const void* queries;  // [rows, kv_heads, group, head_dim], of the tile's first row
  void* attended;       // the same
};

// Buffers are floats. A state has, for every head, row and query of the tile, the weighted sum
// [head_dim], the sum [16 lanes to add up] and the maximum [16, the first counts].
struct Kernel {
  int lanes;  // floats in a vector
  // Queries in float32, scaled: what Visit reads.
  void (*prepare)(const Tile& tile, float* queries);
  // The state over one segment. scratch: VisitScratchFloats(tile) floats.
  void (*visit)(const Tile& tile, int64_t segment, const float* queries, float* scratch,
                float* state);
  // Takes the state of `segment` into `total`, which holds that of all before it. The first
  // segment that a row sees is copied.
  void (*fold)(const Tile& tile, int64_t segment, const float* state, float* total);
  // Writes `attended` from the total.
  void (*finish)(const Tile& tile, const float* total);
};

constexpr int64_t kStateExtraFloats = 32;
constexpr int64_t kBlockTokensMax = 64;
constexpr int64_t kScoreFloats = kBlockTokensMax + 16;  // of one query: room for a last vector

static inline int64_t TileQueries(const Tile& tile) {
  return (tile.head_end - tile.head_begin) * tile.rows * tile.shape->group;
}
static inline int64_t QueryFloats(const Tile& tile) {
  return TileQueries(tile) * tile.shape->head_dim;
}
static inline int64_t StateFloats(const Tile& tile) {
  return TileQueries(tile) * (tile.shape->head_dim + kStateExtraFloats);
}
// Scores of one block, by row and query of one head.
static inline int64_t VisitScratchFloats(const Tile& tile) {
  return tile.rows * tile.shape->group * kScoreFloats;
}

// The kernel with the widest vectors that this machine has and that divide head_dim, always the
// same. lanes 4, 8 or 16 asks for one; null: not on this machine, not in this build, or no divisor.
const Kernel* FindKernel(ElementType type, int64_t head_dim, int lanes);

// One per file that is built for its vectors; all but the first for x86-64 alone.
const Kernel* PortableKernel(ElementType type);
const Kernel* Avx2Kernel(ElementType type);
const Kernel* Avx512Kernel(ElementType type);

}  // namespace aqua
#endif  // AQUA_ATTENTION_KERNEL_H_
