#include "attention/task.h"

#include <algorithm>
#include <cstring>

namespace aqua {
namespace {

// Items for each thread: enough to even out rows of different lengths.
constexpr int64_t kItemsPerThread = 4;
// Floats of keys below which an item is not worth a thread's attention.
constexpr int64_t kItemFloatsMin = 1 << 14;
// State of an item, so that it stays in a core's cache.
constexpr int64_t kItemStateFloats = 1 << 16;

using Long = long long;  // for %lld

Status CheckShape(const AttentionCall& call) {
  const AttentionShape& shape = call.shape;
  if (shape.head_dim < kHeadDimUnit || shape.head_dim > kHeadDimMax ||
      shape.head_dim % kHeadDimUnit != 0) {
    return AQUA_ERROR(AQUA_INVALID, "head_dim is %lld: expected a multiple of %lld up to %lld",
                      Long{shape.head_dim}, Long{kHeadDimUnit}, Long{kHeadDimMax});
  }
  if (shape.group < 1 || shape.group > kGroupMax) {
    return AQUA_ERROR(AQUA_INVALID, "%lld query heads for a KV head: expected 1 to %lld",
                      Long{shape.group}, Long{kGroupMax});
  }
  if (shape.pages < 1 || shape.page_tokens < 1 || shape.kv_heads < 1 || shape.table_pages < 1) {
    return AQUA_ERROR(AQUA_INVALID, "a pool or page tables without pages, tokens or heads");
  }
  if (shape.window < 0 || shape.window_most < 0) {
    return AQUA_ERROR(AQUA_INVALID, "a window of %lld, the largest %lld: expected 0 (none) or more",
                      Long{shape.window}, Long{shape.window_most});
  }
  if (shape.window_most > 0 && (shape.window == 0 || shape.window > shape.window_most)) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "a window of %lld: expected 1 to window_most, %lld",
                      Long{shape.window}, Long{shape.window_most});
  }
  if (!(shape.softcap >= 0)) {
    return AQUA_ERROR(AQUA_INVALID, "softcap is %g: expected 0 (none) or more",
                      static_cast<double>(shape.softcap));
  }
  if (call.layer < 0 || call.layer >= shape.layers) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "layer %lld: expected 0 to %lld", Long{call.layer},
                      Long{shape.layers - 1});
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<AttentionTask>> AttentionTask::Make(const AttentionCall& call,
                                                           const StoreTable& stores,
                                                           int64_t threads) {
  AQUA_RETURN_IF_ERROR(CheckShape(call));
  const Kernel* kernel = FindKernel(call.type, call.shape.head_dim, call.lanes);
  if (kernel == nullptr) {
    return AQUA_ERROR(AQUA_UNAVAILABLE,
                      "vectors of %d floats for head_dim %lld: expected 4, 8 or 16, as this "
                      "machine has and as divide it, or 0 for the widest of them",
                      call.lanes, Long{call.shape.head_dim});
  }
  std::unique_ptr<AttentionTask> task(new AttentionTask(call, kernel));
  AQUA_RETURN_IF_ERROR(task->CheckRows(stores));
  task->Cut(std::max<int64_t>(threads, 1));
  return task;
}

Status AttentionTask::CheckRows(const StoreTable& stores) {
  const AttentionShape& shape = call_.shape;
  bases_.pool = call_.pool;
  bases_.page_bytes = shape.layers * 2 * shape.page_tokens * shape.kv_heads * shape.head_dim *
                      ElementBytes();
  const int64_t positions = shape.table_pages * shape.page_tokens;
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int64_t position = call_.positions[row];
    if (position < 0 || position >= positions) {
      return AQUA_ERROR(AQUA_OUT_OF_RANGE, "row %lld at position %lld: its table holds 0 to %lld",
                        Long{row}, Long{position}, Long{positions - 1});
    }
    const int64_t own = position / shape.page_tokens;
    if (Table(row)[own] < 0) {
      return AQUA_ERROR(AQUA_INVALID,
                        "row %lld at position %lld would write to an arena: the page that grows "
                        "must be in the pool",
                        Long{row}, Long{position});
    }
    for (int64_t page = FirstSeen(shape, position) / shape.page_tokens; page <= own; ++page) {
      AQUA_RETURN_IF_ERROR(CheckEntry(row, page, stores));
    }
  }
  return {};
}

Status AttentionTask::CheckEntry(int64_t row, int64_t ordinal, const StoreTable& stores) {
  const int32_t entry = Table(row)[ordinal];
  if (entry >= 0) {
    if (entry < call_.shape.pages) return {};
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "row %lld has page %d at %lld: the pool has 0 to %lld",
                      Long{row}, entry, Long{ordinal}, Long{call_.shape.pages - 1});
  }
  const int64_t slot = EntrySlot(entry), page = EntryPage(entry);
  if (bases_.arenas[slot] == nullptr) AQUA_RETURN_IF_ERROR(OpenArena(entry, stores));
  if (page < bases_.arena_pages[slot]) return {};
  return AQUA_ERROR(AQUA_OUT_OF_RANGE,
                    "row %lld has page %lld of the arena in store slot %lld at %lld: it has 0 to "
                    "%lld",
                    Long{row}, Long{page}, Long{slot}, Long{ordinal},
                    Long{bases_.arena_pages[slot] - 1});
}

Status AttentionTask::OpenArena(int32_t entry, const StoreTable& stores) {
  const int64_t slot = EntrySlot(entry);
  const std::shared_ptr<Store> arena = stores.FindSlot(static_cast<int32_t>(slot));
  if (arena == nullptr) {
    return AQUA_ERROR(AQUA_STALE, "a page table names store slot %lld: no live store has it",
                      Long{slot});
  }
  const auto [pool, part] = stores.FindPart(call_.pool);
  if (pool == nullptr) {
    return AQUA_ERROR(AQUA_INVALID,
                      "a page table names store slot %lld, but the pool at %p is no registered "
                      "store: register it, so that its parts and the arena's can be matched",
                      Long{slot}, static_cast<const void*>(call_.pool));
  }
  if (static_cast<size_t>(part) >= arena->parts.size() || arena->page_bytes != bases_.page_bytes ||
      arena->parts[part].device != kHostDevice) {
    return AQUA_ERROR(AQUA_INVALID,
                      "arena \"%s\" has %zu parts of %lld-byte pages: part %d of %lld-byte pages "
                      "in host memory was expected",
                      arena->label.c_str(), arena->parts.size(), Long{arena->page_bytes}, part,
                      Long{bases_.page_bytes});
  }
  bases_.arenas[slot] = arena->parts[part].base;
  bases_.arena_pages[slot] = arena->pages;
  arenas_.push_back(arena);
  return {};
}

void AttentionTask::Write() const {
  const AttentionShape& shape = call_.shape;
  const int64_t token_bytes = shape.kv_heads * shape.head_dim * ElementBytes();
  const int64_t side_bytes = shape.page_tokens * token_bytes;
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int64_t position = call_.positions[row];
    const int64_t page = Table(row)[position / shape.page_tokens];
    std::byte* into = call_.pool + page * bases_.page_bytes + call_.layer * 2 * side_bytes +
                      position % shape.page_tokens * token_bytes;
    std::memcpy(into, call_.keys + row * token_bytes, token_bytes);
    std::memcpy(into + side_bytes, call_.values + row * token_bytes, token_bytes);
  }
}

void AttentionTask::Cut(int64_t threads) {
  int64_t cost = 0;
  for (int64_t row = 0; row < call_.shape.rows; ++row) cost += Cost(row, 1);
  const int64_t item_cost = std::max(cost / (threads * kItemsPerThread), kItemFloatsMin);
  for (int64_t row = 0, rows = 1; row < call_.shape.rows; row += rows) {
    rows = call_.share_loads ? RowsAlike(row) : 1;
    CutTile(row, rows, item_cost);
  }
}

// Over heads first, which costs nothing; over segments when that is not enough.
void AttentionTask::CutTile(int64_t row, int64_t rows, int64_t item_cost) {
  const AttentionShape& shape = call_.shape;
  const int64_t cost = Cost(row, rows);
  const int64_t head_state = rows * shape.group * (shape.head_dim + kStateExtraFloats);
  int64_t heads = std::clamp<int64_t>(item_cost * shape.kv_heads / cost, 1, shape.kv_heads);
  heads = std::min(heads, std::max<int64_t>(kItemStateFloats / head_state, 1));
  const bool split = heads == 1 && cost / shape.kv_heads > 2 * item_cost;
  for (int64_t head = 0; head < shape.kv_heads; head += heads) {
    AddItems(row, rows, head, std::min(head + heads, shape.kv_heads), split);
  }
}

void AttentionTask::AddItems(int64_t row, int64_t rows, int64_t head_begin, int64_t head_end,
                             bool split) {
  Item item{row, rows, head_begin, head_end, kAll, 0};
  const Tile tile = TileOf(item);
  int64_t first = 0, last = 0;
  Segments(tile, &first, &last);
  if (!split || first == last) {
    items_.push_back(item);
    return;
  }
  item.split = static_cast<int64_t>(splits_.size());
  splits_.push_back(std::make_unique<Split>());
  splits_.back()->states.reset(new float[(last - first + 1) * StateFloats(tile)]);
  splits_.back()->left = last - first + 1;
  for (item.segment = first; item.segment <= last; ++item.segment) items_.push_back(item);
}

// Rows from `row` on that have its page table, as many as a tile may have.
int64_t AttentionTask::RowsAlike(int64_t row) const {
  const AttentionShape& shape = call_.shape;
  const int64_t most = std::min(kTileRowsMax, kTileQueriesMax / shape.group);
  const size_t bytes = shape.table_pages * sizeof(int32_t);
  int64_t rows = 1;
  while (rows < most && row + rows < shape.rows &&
         std::memcmp(Table(row), Table(row + rows), bytes) == 0) {
    ++rows;
  }
  return rows;
}

// Floats of keys that the rows attend to.
int64_t AttentionTask::Cost(int64_t row, int64_t rows) const {
  const AttentionShape& shape = call_.shape;
  int64_t tokens = 0;
  for (int64_t i = row; i < row + rows; ++i) {
    tokens += call_.positions[i] + 1 - FirstSeen(shape, call_.positions[i]);
  }
  return tokens * shape.kv_heads * shape.head_dim;
}

void AttentionTask::Work() {
  std::unique_ptr<float[]> floats;
  for (;;) {
    const int64_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= items()) return;
    const Item& item = items_[index];
    const Tile tile = TileOf(item);
    if (floats == nullptr) floats.reset(new float[WorkspaceFloats()]);
    Workspace workspace{};
    workspace.queries = floats.get();
    workspace.scores = workspace.queries + QueryFloats(tile);
    workspace.state = workspace.scores + VisitScratchFloats(tile);
    workspace.total = workspace.state + StateFloats(tile);
    Compute(item, workspace);
  }
}

void AttentionTask::Compute(const Item& item, const Workspace& workspace) {
  const Tile tile = TileOf(item);
  int64_t first = 0, last = 0;
  Segments(tile, &first, &last);
  kernel_->prepare(tile, workspace.queries);
  if (item.segment == kAll) {
    for (int64_t segment = first; segment <= last; ++segment) {
      kernel_->visit(tile, segment, workspace.queries, workspace.scores, workspace.state);
      kernel_->fold(tile, segment, workspace.state, workspace.total);
    }
    kernel_->finish(tile, workspace.total);
    return;
  }
  Split& split = *splits_[item.split];
  const int64_t floats = StateFloats(tile);
  kernel_->visit(tile, item.segment, workspace.queries, workspace.scores,
                 split.states.get() + (item.segment - first) * floats);
  if (split.left.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  for (int64_t segment = first; segment <= last; ++segment) {
    kernel_->fold(tile, segment, split.states.get() + (segment - first) * floats, workspace.total);
  }
  kernel_->finish(tile, workspace.total);
}

Tile AttentionTask::TileOf(const Item& item) const {
  const AttentionShape& shape = call_.shape;
  const int64_t row_bytes = shape.kv_heads * shape.group * shape.head_dim * ElementBytes();
  Tile tile{};
  tile.shape = &call_.shape;
  tile.bases = &bases_;
  tile.layer = call_.layer;
  tile.table = Table(item.row);
  tile.positions = call_.positions + item.row;
  tile.rows = item.rows;
  tile.head_begin = item.head_begin;
  tile.head_end = item.head_end;
  tile.queries = call_.queries + item.row * row_bytes;
  tile.attended = call_.attended + item.row * row_bytes;
  return tile;
}

// Of those that some row of the tile sees.
void AttentionTask::Segments(const Tile& tile, int64_t* first, int64_t* last) const {
  int64_t lowest = FirstSeen(call_.shape, tile.positions[0]), highest = tile.positions[0];
  for (int64_t row = 1; row < tile.rows; ++row) {
    lowest = std::min(lowest, FirstSeen(call_.shape, tile.positions[row]));
    highest = std::max<int64_t>(highest, tile.positions[row]);
  }
  *first = lowest / SegmentTokens(call_.shape);
  *last = highest / SegmentTokens(call_.shape);
}

// For the largest item.
int64_t AttentionTask::WorkspaceFloats() const {
  int64_t most = 0;
  for (const Item& item : items_) {
    const Tile tile = TileOf(item);
    most = std::max(most, QueryFloats(tile) + VisitScratchFloats(tile) + 2 * StateFloats(tile));
  }
  return most;
}

}  // namespace aqua
