// Stands in for XLA: one thread per part of a pool runs the pool's programs in order.
//
// Knows: what to reach next, random delays. Does not know: what tickets copy.
#ifndef AQUA_TESTS_POOL_THREADS_H_
#define AQUA_TESTS_POOL_THREADS_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/ticket.h"

namespace aqua::harness {

struct Program {
  int64_t ticket;
  Direction direction;
  int parts;  // that run it: the first so many
  // After a fence has opened: writes on the pool of that part.
  std::function<void(int part)> body;
  int reached = 0;  // guarded by the mutex of PoolThreads
};

class PoolThreads {
 public:
  PoolThreads(std::vector<std::byte*> bases, uint64_t seed);
  ~PoolThreads();  // joins

  void Enqueue(const std::shared_ptr<Program>& program);
  void AwaitReached(const std::shared_ptr<Program>& program);  // by all its parts
  void Finish();                                               // runs all that was enqueued
  // From now on an error is what a part is expected to meet; it then stops.
  void ExpectEnd();

 private:
  void Run(int part, uint64_t seed);
  bool Reach(int part, const Program& program, bool name_ticket);

  const std::vector<std::byte*> bases_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Program>> programs_;
  bool finishing_ = false;
  bool may_end_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace aqua::harness
#endif  // AQUA_TESTS_POOL_THREADS_H_
