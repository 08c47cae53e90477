// Paged attention of rows: the arguments that the CPU kernels and handlers share.
//
// Letters: rows [R], table pages [M], layers [L], page tokens [T], KV heads [K], group [G] (query
// heads per KV head), head_dim [D]. A page is [L, 2, T, K, D], keys at index 0 and values at 1.
//
// A page table's entry e: e >= 0 is page e of the pool; e < 0 is a slot of an arena:
// ~e = store_slot << 24 | page, store_slot as from aqua_store_slot. So a session can be attended
// where its pages are.
#ifndef AQUA_ATTENTION_ATTENTION_H_
#define AQUA_ATTENTION_ATTENTION_H_

#include <cstddef>
#include <cstdint>

namespace aqua {

constexpr int kEntryPageBits = 24;

struct AttentionShape {
  int64_t rows, table_pages;
  int64_t pages, layers, page_tokens, kv_heads, group, head_dim;
  int64_t window;  // 0: attends to all positions up to its own; else to the last `window` of them
  float scale;     // of the scores, head_dim ** -0.5 as a rule
};

// Where a page table's entry lies on this shard. Host code; the CUDA kernel has its own.
struct PageBases {
  const std::byte* pool;
  const std::byte* arenas[128];  // by store slot; null: none
  int64_t arena_pages[128];
  int64_t page_bytes;  // of one part
};

}  // namespace aqua
#endif  // AQUA_ATTENTION_ATTENTION_H_
