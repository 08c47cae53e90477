#include "tests/pool_threads.h"

#include <chrono>
#include <random>
#include <utility>

#include "core/process.h"
#include "tests/check.h"

namespace aqua::harness {

PoolThreads::PoolThreads(std::vector<std::byte*> bases, uint64_t seed) : bases_(std::move(bases)) {
  for (size_t part = 0; part < bases_.size(); ++part) {
    threads_.emplace_back([this, part, seed] { Run(static_cast<int>(part), seed + part); });
  }
}

PoolThreads::~PoolThreads() { Finish(); }

void PoolThreads::Enqueue(const std::shared_ptr<Program>& program) {
  std::lock_guard<std::mutex> lock(mutex_);
  programs_.push_back(program);
  changed_.notify_all();
}

void PoolThreads::AwaitReached(const std::shared_ptr<Program>& program) {
  std::unique_lock<std::mutex> lock(mutex_);
  const bool reached = changed_.wait_for(lock, kPatience, [&] {
    return program->reached == program->parts || may_end_;
  });
  CHECK_THAT(reached, "ticket %lld was not reached", static_cast<long long>(program->ticket));
}

void PoolThreads::Finish() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    finishing_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void PoolThreads::ExpectEnd() {
  std::lock_guard<std::mutex> lock(mutex_);
  may_end_ = true;
  changed_.notify_all();
}

void PoolThreads::Run(int part, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (size_t next = 0;; ++next) {
    std::shared_ptr<Program> program;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [&] { return next < programs_.size() || finishing_; });
      if (next == programs_.size()) return;
      program = programs_[next];
    }
    if (part >= program->parts) continue;
    if (random() % 3 == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
    }
    if (!Reach(part, *program, random() % 2 == 0)) return;
    if (program->body) program->body(part);
    std::lock_guard<std::mutex> lock(mutex_);
    ++program->reached;
    changed_.notify_all();
  }
}

// False: the pool has ended.
bool PoolThreads::Reach(int part, const Program& program, bool name_ticket) {
  const int32_t operand = name_ticket ? static_cast<int32_t>(program.ticket & 0x7fffffff) : -1;
  Transfers& transfers = TheProcess().transfers;
  Status status;
  if (program.direction == Direction::kFence) {
    struct Opening {
      std::mutex mutex;
      std::condition_variable changed;
      int times = 0;
    };
    const auto opening = std::make_shared<Opening>();
    status = transfers.ReachFence(bases_[part], operand, [opening] {
      std::lock_guard<std::mutex> lock(opening->mutex);
      ++opening->times;
      opening->changed.notify_all();
    });
    if (status.ok()) {
      std::unique_lock<std::mutex> lock(opening->mutex);
      opening->changed.wait_for(lock, kPatience, [&] { return opening->times > 0; });
      CHECK_THAT(opening->times == 1, "fence %lld opened %d times",
                 static_cast<long long>(program.ticket), opening->times);
    }
  } else {
    status = transfers.Reach(bases_[part], program.direction, operand, nullptr);
  }
  if (status.ok()) return true;
  std::lock_guard<std::mutex> lock(mutex_);
  CHECK_THAT(may_end_ && status.code == AQUA_STALE, "ticket %lld: %s",
             static_cast<long long>(program.ticket), status.text.c_str());
  return false;
}

}  // namespace aqua::harness
