#include "linear/task.h"

#include <algorithm>
#include <cstring>
#include <thread>

namespace aqua {
namespace {

// Multiply-adds below which another thread comes too late.
constexpr int64_t kProductsMin = 1 << 19;
// Rows that a product is worth at least: one row costs what its weights take to be read.
constexpr int64_t kRowsWorth = 8;
// Steps of a panel at most that stay in a core's cache while all tiles pass over them.
constexpr int64_t kBlockSteps = 256;
// How far ahead a lone tile fetches.
constexpr int64_t kAheadBytes = 2048;

using Long = long long;  // for %lld

}  // namespace

Result<std::shared_ptr<LinearTask>> LinearTask::Make(const LinearCall& call) {
  if (call.live < 0 || call.live > call.rows) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "live is %lld: expected 0 to %lld, the rows",
                      Long{call.live}, Long{call.rows});
  }
  if (call.in < 1 || call.out < 1) {
    return AQUA_ERROR(AQUA_INVALID, "weights of %lld by %lld: expected at least 1", Long{call.in},
                      Long{call.out});
  }
  const LinearKernel* kernel = FindLinearKernel(call.type, call.lanes);
  if (kernel == nullptr) {
    return AQUA_ERROR(AQUA_UNAVAILABLE,
                      "vectors of %d floats: expected 4, 8 or 16, as this machine has, or 0 for "
                      "the widest of them",
                      call.lanes);
  }
  return std::shared_ptr<LinearTask>(new LinearTask(call, kernel));
}

LinearTask::LinearTask(const LinearCall& call, const LinearKernel* kernel)
    : call_(call),
      kernel_(kernel),
      live_(call.live),
      steps_(StepsOf(call.type, call.in)),
      panels_(call.live > 0 ? (call.out + kPanelColumns - 1) / kPanelColumns : 0),
      tiles_((call.live + kernel->rows_most - 1) / kernel->rows_most),
      tiles_at_(new float[call.live * steps_]) {
  const int64_t into_bytes = call.into_float32 || call.type == LinearType::kFloat32 ? 4 : 2;
  const int64_t row_bytes = call.out * into_bytes;
  std::memset(call.into + call.live * row_bytes, 0, (call.rows - call.live) * row_bytes);
}

int64_t LinearTask::Workers(int64_t threads) const {
  const int64_t products = std::max(live_, kRowsWorth) * call_.in * call_.out;
  const int64_t most = std::min(panels_, products / kProductsMin);
  return std::clamp<int64_t>(most, 1, std::max<int64_t>(threads, 1));
}

bool LinearTask::Work() {
  if (panels_ == 0) return true;
  PrepareTiles();
  std::unique_ptr<float[]> sums;
  bool is_last = false;
  const auto claim = [this] { return next_panel_.fetch_add(1, std::memory_order_relaxed); };
  for (int64_t panel = claim(); panel < panels_;) {
    if (sums == nullptr) sums.reset(new float[2 * live_ * kPanelColumns]);
    const int64_t next = claim();  // before it is wanted: its weights are fetched meanwhile
    Compute(panel, next < panels_ ? next : panel, sums.get());
    is_last = panels_done_.fetch_add(1, std::memory_order_acq_rel) + 1 == panels_;
    panel = next;
  }
  return is_last;
}

// Returns when all tiles are ready, whoever made them.
void LinearTask::PrepareTiles() {
  std::unique_ptr<float[]> scratch;
  const int64_t row_bytes = call_.in * (call_.type == LinearType::kFloat32 ? 4 : 2);
  const LinearNorm norm{call_.norm_scale, call_.epsilon, call_.from_one};
  for (;;) {
    const int64_t tile = next_tile_.fetch_add(1, std::memory_order_relaxed);
    if (tile >= tiles_) break;
    if (scratch == nullptr) scratch.reset(new float[call_.in + 1]);
    const int64_t row = TileRow(tile);
    kernel_->prepare(call_.x + row * row_bytes, TileRow(tile + 1) - row, call_.in, norm,
                     scratch.get(), Tile(tile));
    tiles_ready_.fetch_add(1, std::memory_order_release);
  }
  while (tiles_ready_.load(std::memory_order_acquire) < tiles_) std::this_thread::yield();
}

void LinearTask::Compute(int64_t panel, int64_t next, float* sums) const {
  const int64_t panel_bytes = steps_ * kPanelStepBytes;
  const std::byte* const at = call_.panels + panel * panel_bytes;
  const std::byte* const first = call_.factors != nullptr ? call_.factors : call_.panels;
  const std::byte* const after = first + next * panel_bytes;
  float* const factor_sums = sums + live_ * kPanelColumns;
  if (call_.factors != nullptr) Multiply(call_.factors + panel * panel_bytes, at, factor_sums);
  Multiply(at, after, sums);
  const int64_t column = panel * kPanelColumns;
  const int64_t bytes = call_.type == LinearType::kFloat32 ? 4 : 2;
  const int64_t into_bytes = call_.into_float32 ? 4 : bytes;
  LinearEnd end{};
  end.activation = call_.activation;
  end.factors = call_.factors == nullptr ? nullptr : factor_sums;
  end.bias = call_.bias == nullptr ? nullptr : call_.bias + column * bytes;
  end.added = call_.added == nullptr ? nullptr : call_.added + column * bytes;
  end.into = call_.into + column * into_bytes;
  end.into_float32 = call_.into_float32;
  end.stride = call_.out;
  end.columns = call_.out - column;
  kernel_->end(sums, live_, end);
}

// All tiles by one panel, block by block, while the next block or `after` is fetched.
void LinearTask::Multiply(const std::byte* panel, const std::byte* after, float* sums) const {
  const int64_t blocks = tiles_ > 1 ? (steps_ + kBlockSteps - 1) / kBlockSteps : 1;
  const int64_t block = (steps_ + blocks - 1) / blocks;  // alike: each fetches as much as it reads
  for (int64_t step = 0; step < steps_; step += block) {
    const int64_t steps = std::min(block, steps_ - step);
    const std::byte* const from = panel + step * kPanelStepBytes;
    const bool is_end = step + block >= steps_;
    const std::byte* const then = is_end ? after : from + block * kPanelStepBytes;
    for (int64_t tile = 0; tile < tiles_; ++tile) {
      const int64_t row = TileRow(tile), rows = TileRow(tile + 1) - row;
      const int64_t ahead_bytes = kPanelStepBytes / tiles_;
      const std::byte* const ahead =
          tiles_ > 1 ? then + tile * steps * ahead_bytes : from + kAheadBytes;
      kernel_->multiply(Tile(tile) + step * rows, rows, from, steps, step == 0, ahead, ahead_bytes,
                        sums + row * kPanelColumns);
    }
  }
}

}  // namespace aqua
