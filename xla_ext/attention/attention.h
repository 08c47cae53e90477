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

// Functions here are `static`: files built for wider vectors include this header, and a function
// of theirs must not be what the linker gives to all others.
static inline int64_t EntrySlot(int32_t entry) { return ~entry >> kEntryPageBits; }
static inline int64_t EntryPage(int32_t entry) { return ~entry & ((1 << kEntryPageBits) - 1); }

struct AttentionShape {
  int64_t rows, table_pages;
  int64_t pages, layers, page_tokens, kv_heads, group, head_dim;
  int64_t window;       // 0: attends to all positions up to its own; else to the last so many
  int64_t window_most;  // of any layer of the model; 0: one of them attends to all
  float scale;          // of the scores, head_dim ** -0.5 as a rule
  float softcap;        // scores s become softcap * tanh(s / softcap); 0: they stay
};

// The first position that a row at `position` attends to.
static inline int64_t FirstSeen(const AttentionShape& shape, int64_t position) {
  return shape.window > 0 && position >= shape.window ? position - shape.window + 1 : 0;
}

// Where a page table's entry lies on this shard. Host code; the CUDA kernel has its own.
struct PageBases {
  const std::byte* pool;
  const std::byte* arenas[128];  // by store slot; null: none
  int64_t arena_pages[128];
  int64_t page_bytes;  // of one part
};

static inline const std::byte* PageAt(const PageBases& bases, int32_t entry) {
  if (entry >= 0) return bases.pool + entry * bases.page_bytes;
  return bases.arenas[EntrySlot(entry)] + EntryPage(entry) * bases.page_bytes;
}

}  // namespace aqua
#endif  // AQUA_ATTENTION_ATTENTION_H_
