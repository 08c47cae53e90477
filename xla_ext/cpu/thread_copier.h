// Copies by threads that sleep while there is nothing to copy.
//
// Knows: jobs, in the order they were started; a job is cut into pieces, so that
// all threads share it. Does not know: pages, tickets.
#ifndef AQUA_CPU_THREAD_COPIER_H_
#define AQUA_CPU_THREAD_COPIER_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/copier.h"
#include "core/status.h"

namespace aqua {

class ThreadCopier final : public Copier {
 public:
  // `cores`: thread i is pinned to cores[i % size]; empty: to none.
  static Result<std::unique_ptr<Copier>> Make(int threads, const std::vector<int>& cores);
  ~ThreadCopier() override;

  void Start(Job job) override;
  void Join() override;

 private:
  struct Work {
    Job job;
    size_t range = 0;    // what is next to hand out: a range,
    int64_t offset = 0;  // and from where in it
    int copying = 0;     // pieces handed out, not copied yet
    int64_t started_ns = 0;
  };

  ThreadCopier() = default;
  void Loop();
  static void TakePiece(Work* work, std::vector<Range>* piece);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Work>> queue_;  // with something to hand out
  bool joining_ = false;
  std::mutex join_mutex_;
  std::vector<std::thread> threads_;
};

}  // namespace aqua
#endif  // AQUA_CPU_THREAD_COPIER_H_
