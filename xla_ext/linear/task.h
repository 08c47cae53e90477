// One call of a linear layer: checked, its rows packed, cut into panels for threads.
//
// Knows: rows, weights, how work divides. Does not know: XLA, how the arithmetic is done
// (kernel.h). What is whose item changes no bit.
#ifndef AQUA_LINEAR_TASK_H_
#define AQUA_LINEAR_TASK_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/status.h"
#include "linear/kernel.h"

namespace aqua {

// Letters: rows [R], in [I], out [O]. The arrays stay the caller's until `done`.
struct LinearCall {
  LinearType type;
  int64_t rows, live, in, out;  // rows from `live` on become zeros
  const std::byte* x;           // [R, I]
  const std::byte* panels;      // [ceil(O / columns), steps, 128 bytes]
  const std::byte* factors;     // as panels: activated, the product is multiplied by x times these
  const std::byte* norm_scale;  // [I], or null
  const std::byte* bias;        // [O], or null
  const std::byte* added;       // [R, O], or null
  std::byte* into;              // [R, O], of float32 or the type of x
  bool into_float32;
  Activation activation;
  float epsilon;
  bool from_one;
  int lanes;  // of the vectors; 0: the widest of this machine
};

class LinearTask {
 public:
  static Result<std::shared_ptr<LinearTask>> Make(const LinearCall& call);

  // How many of `threads` are worth it.
  int64_t Workers(int64_t threads) const;
  // Computes until there is nothing left to begin. Any thread. True: this call ended the last of
  // all there was, and the result is there. Once it is, arrays of the call are no longer touched.
  bool Work();

 private:
  LinearTask(const LinearCall& call, const LinearKernel* kernel);

  void PrepareTiles();
  // next: the panel after it, whose weights are fetched meanwhile.
  void Compute(int64_t panel, int64_t next, float* sums) const;
  void Multiply(const std::byte* panel, const std::byte* after, float* sums) const;
  int64_t TileRow(int64_t tile) const { return live_ * tile / tiles_; }
  float* Tile(int64_t tile) const { return tiles_at_.get() + TileRow(tile) * steps_; }

  const LinearCall call_;
  const LinearKernel* const kernel_;
  const int64_t live_, steps_, panels_, tiles_;
  std::unique_ptr<float[]> tiles_at_;  // each tile [steps, rows]
  std::atomic<int64_t> next_tile_{0}, tiles_ready_{0}, next_panel_{0}, panels_done_{0};
};

}  // namespace aqua
#endif  // AQUA_LINEAR_TASK_H_
