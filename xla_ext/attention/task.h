// One call of attention: checked, its keys and values written, cut into items for threads.
//
// Knows: rows, page tables, arenas by slot, how work divides. Does not know: XLA, how the
// arithmetic is done (kernel.h).
//
// An item is some KV heads of one tile, over all of its segments or, where a row is long and there
// are few items, over one of them. What an item is changes no bit of any row (kernel.h).
#ifndef AQUA_ATTENTION_TASK_H_
#define AQUA_ATTENTION_TASK_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention/attention.h"
#include "attention/kernel.h"
#include "core/status.h"
#include "core/store.h"

namespace aqua {

// The operands. The arrays stay the caller's and must outlive the task.
struct AttentionCall {
  AttentionShape shape;
  ElementType type;
  int64_t layer;
  std::byte* pool;           // [pages, layers, 2, page_tokens, kv_heads, head_dim]
  const int32_t* tables;     // [rows, table_pages]
  const int32_t* positions;  // [rows]
  const std::byte* queries;  // [rows, kv_heads, group, head_dim]
  const std::byte* keys;     // [rows, kv_heads, head_dim]
  const std::byte* values;
  std::byte* attended;  // as queries
  bool share_loads;     // neighbouring rows with one page table are computed together
  int lanes;            // of the vectors; 0: the widest of this machine
};

class AttentionTask {
 public:
  // Checks all that the call will touch. threads: that may call Work.
  static Result<std::unique_ptr<AttentionTask>> Make(const AttentionCall& call,
                                                     const StoreTable& stores, int64_t threads);

  // Puts every row's keys and values into its page. Once, before any Work.
  void Write() const;
  // Computes items until there is none left. Any thread; the attended rows are there when all
  // calls have returned.
  void Work();
  int64_t items() const { return static_cast<int64_t>(items_.size()); }

 private:
  struct Item {
    int64_t row, rows;
    int64_t head_begin, head_end;
    int64_t segment;  // kAll
    int64_t split;    // the index in splits_ when it is one segment of several items
  };
  // A tile whose segments are computed apart: the last to end folds them in order.
  struct Split {
    std::unique_ptr<float[]> states;  // [segments, StateFloats]
    std::atomic<int64_t> left;
  };
  struct Workspace {
    float* queries;
    float* scores;
    float* state;
    float* total;
  };
  static constexpr int64_t kAll = -1;

  AttentionTask(const AttentionCall& call, const Kernel* kernel) : call_(call), kernel_(kernel) {}

  Status CheckRows(const StoreTable& stores);
  Status CheckEntry(int64_t row, int64_t ordinal, const StoreTable& stores);
  Status OpenArena(int32_t entry, const StoreTable& stores);
  void Cut(int64_t threads);
  void CutTile(int64_t row, int64_t rows, int64_t item_cost);
  void AddItems(int64_t row, int64_t rows, int64_t head_begin, int64_t head_end, bool split);
  int64_t RowsAlike(int64_t row) const;
  int64_t Cost(int64_t row, int64_t rows) const;
  void Compute(const Item& item, const Workspace& workspace);
  Tile TileOf(const Item& item) const;
  void Segments(const Tile& tile, int64_t* first, int64_t* last) const;
  int64_t WorkspaceFloats() const;
  const int32_t* Table(int64_t row) const { return call_.tables + row * call_.shape.table_pages; }
  int64_t ElementBytes() const { return call_.type == ElementType::kFloat32 ? 4 : 2; }

  AttentionCall call_;
  const Kernel* kernel_;
  PageBases bases_ = {};
  std::vector<std::shared_ptr<Store>> arenas_;  // kept alive while they are read
  std::vector<Item> items_;
  std::vector<std::unique_ptr<Split>> splits_;
  std::atomic<int64_t> next_{0};
};

}  // namespace aqua
#endif  // AQUA_ATTENTION_TASK_H_
