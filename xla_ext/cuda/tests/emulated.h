// A block of GPU threads on one CPU thread: what attention_kernel.cuh needs, and no more.
//
// Knows: threads as contexts that take turns, barriers, shuffles, the rounding of intrinsics.
// Shows: indices, addresses, divergence at a barrier, arithmetic in order. Does not show: races
// between threads, since they take turns, and speed.
#ifndef AQUA_CUDA_TESTS_EMULATED_H_
#define AQUA_CUDA_TESTS_EMULATED_H_

#include <cuda_runtime_api.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

namespace emulated {

constexpr int kThreads = 128, kWarp = 32, kStackBytes = 64 << 10;

// One that waits at a barrier goes on when all that share it have come.
struct Barrier {
  int members, arrived = 0, turn = 0;
};

struct Block {
  uint3 block, thread[kThreads];
  ucontext_t scheduler, context[kThreads];
  std::vector<char> stacks = std::vector<char>(size_t{kThreads} * kStackBytes);
  bool is_done[kThreads] = {};
  int current = 0, steps = 0;
  Barrier whole{kThreads}, warps[kThreads / kWarp];
  uint32_t shuffled[kThreads];
  int any = 0, any_result = 0;
  std::function<void()> body;
};

inline Block* the_block = nullptr;

inline void Yield() {
  Block& block = *the_block;
  swapcontext(&block.context[block.current], &block.scheduler);
}

inline void Arrive(Barrier* barrier) {
  ++the_block->steps;
  const int turn = barrier->turn;
  if (++barrier->arrived == barrier->members) {
    barrier->arrived = 0;
    ++barrier->turn;
    return;
  }
  while (barrier->turn == turn) Yield();
}

inline void Enter() {
  Block& block = *the_block;
  block.body();
  block.is_done[block.current] = true;
  ++block.steps;
  Yield();
}

// Runs one block of kThreads threads. Aborts when threads wait for one that has returned.
inline void RunBlock(uint3 index, const std::function<void()>& body) {
  const auto block = std::make_unique<Block>();
  the_block = block.get();
  block->block = index;
  block->body = body;
  for (Barrier& warp : block->warps) warp.members = kWarp;
  for (int i = 0; i < kThreads; ++i) {
    block->thread[i] = {static_cast<unsigned>(i), 0, 0};
    getcontext(&block->context[i]);
    block->context[i].uc_stack.ss_sp = block->stacks.data() + size_t{kStackBytes} * i;
    block->context[i].uc_stack.ss_size = kStackBytes;
    block->context[i].uc_link = nullptr;
    makecontext(&block->context[i], Enter, 0);
  }
  for (int left = kThreads; left > 0;) {
    const int steps = block->steps;
    left = 0;
    for (int i = 0; i < kThreads; ++i) {
      if (block->is_done[i]) continue;
      block->current = i;
      swapcontext(&block->scheduler, &block->context[i]);
      left += !block->is_done[i];
    }
    if (left > 0 && block->steps == steps) {
      std::fprintf(stderr, "%d threads wait at a barrier for others that have returned\n", left);
      std::abort();
    }
  }
  the_block = nullptr;
}

}  // namespace emulated

#define threadIdx (emulated::the_block->thread[emulated::the_block->current])
#define blockIdx (emulated::the_block->block)

inline void __syncthreads() { emulated::Arrive(&emulated::the_block->whole); }

inline int __syncthreads_or(int predicate) {
  emulated::Block& block = *emulated::the_block;
  block.any |= predicate;
  __syncthreads();
  block.any_result = block.any;
  __syncthreads();
  const int result = block.any_result;
  block.any = 0;
  __syncthreads();
  return result;
}

inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  emulated::Block& block = *emulated::the_block;
  emulated::Barrier* const warp = &block.warps[block.current / emulated::kWarp];
  const int me = block.current;
  block.shuffled[me] = __float_as_uint(value);
  emulated::Arrive(warp);
  const float other = __uint_as_float(block.shuffled[me ^ mask]);
  emulated::Arrive(warp);
  return other;
}

// Compiled with -ffp-contract=off: one operation, one rounding.
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

#endif  // AQUA_CUDA_TESTS_EMULATED_H_
