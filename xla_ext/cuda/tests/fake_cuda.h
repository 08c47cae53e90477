// Stands in for the CUDA runtime and driver: streams are threads, memory is memory.
//
// Defines, at link time, the calls that runtime.cc, driver.cc, flags.cc and stream_copier.cc make.
// Shows: order and lifetimes. Does not show: what hardware does.
#ifndef AQUA_CUDA_TESTS_FAKE_CUDA_H_
#define AQUA_CUDA_TESTS_FAKE_CUDA_H_

#include <cuda_runtime_api.h>

#include <functional>

namespace fake {

// Two devices reach each other, the third reaches nobody.
constexpr int kDevices = 3;

// Runs on the stream, in its turn.
void Enqueue(cudaStream_t stream, std::function<void()> work);
// Waits until the stream has run all that it was given.
void Drain(cudaStream_t stream);
// Every copy takes as long from now on.
void SetCopyMicroseconds(int microseconds);
// The n-th copy call from now on is refused; 0: none.
void RefuseCopy(int n);
int batches();  // calls of cudaMemcpyBatchAsync so far
int live_events();

}  // namespace fake
#endif  // AQUA_CUDA_TESTS_FAKE_CUDA_H_
